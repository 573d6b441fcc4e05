package engine

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/nereid-paas/nereid/pkg/state"
)

// FuzzVerify has any configuration checked and completed as a create does it.
func FuzzVerify(f *testing.F) {
	for _, s := range []string{
		`{"Image":"x"}`, `{"Image":"x","HostConfig":{"Ulimits":[null,{"Name":"nofile","Soft":2,"Hard":1}]}}`,
		`{"Image":"x","HostConfig":{"Devices":[{"PathOnHost":"/dev/null","CgroupPermissions":"rwmx"}],"DeviceRequests":[{"Driver":"cdi","Count":-1}]}}`,
		`{"Image":"x","HostConfig":{"PortBindings":{"80-81/tcp":[{"HostPort":"1-65535"}],"x":[null]},"PublishAllPorts":true},"ExposedPorts":{"9/x":{},"":{}}}`,
		`{"Image":"x","HostConfig":{"NetworkMode":"container:","IpcMode":"container:x","PidMode":"host","UTSMode":"x","UsernsMode":"host","Links":["a:b",":"]}}`,
		`{"Image":"x","HostConfig":{"SecurityOpt":["seccomp={","no-new-privileges:maybe","label=","apparmor"],"CapAdd":["ALL","X"],"Sysctls":{"":""}}}`,
		`{"Image":"x","HostConfig":{"BlkioWeightDevice":[null],"BlkioDeviceReadBps":[{"Path":""}],"CpusetCpus":"0-99999999999","CpusetMems":"a,b","NanoCpus":-1}}`,
		`{"Image":"x","HostConfig":{"Mounts":[{"Type":"tmpfs","TmpfsOptions":{"SizeBytes":-1,"Mode":9999}},{"Type":"?"},{}],"Tmpfs":{"x":"size=y"},"Binds":["a:b:c:d",":",""]}}`,
		`{"Image":"x","HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"x"}},"RestartPolicy":{"Name":"x","MaximumRetryCount":-1},"ExtraHosts":["","a:host-gateway"]}}`,
		`{"Healthcheck":{"Test":[],"Interval":-9223372036854775808,"Retries":-1},"StopSignal":"SIGRTMAX+99","Env":["","=","\ud800"],"Entrypoint":[""],"Cmd":[]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var req container.CreateRequest
		if json.Unmarshal([]byte(s), &req) != nil || req.Config == nil {
			return
		}
		if req.HostConfig == nil {
			req.HostConfig = &container.HostConfig{}
		}
		cfg, hc := req.Config, req.HostConfig
		if err := checkNetworkMode(cfg, hc); err != nil {
			return
		}
		v := verifier{sys: allFeatures, check: func(*container.HostConfig) ([]string, error) { return nil, nil }, runtime: defaultRuntime}
		if err := v.verify(cfg, hc); err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not the client's fault", err)
			}
			return
		}
		setDefaults(hc)
		mergeImage(cfg, &container.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
		_, _, _ = command(cfg)
		_ = setLogDriver(hc)
	})
}

// FuzzEventFilters has any filters select among events.
func FuzzEventFilters(f *testing.F) {
	for _, s := range []string{
		`{"event":["exec_create","health_status: x"]}`, `{"container":["web"],"image":["a:b@"]}`, `{"label":["a=b"]}`, `{"type":["?"],"scope":["swarm"]}`, `{"node":["h1"]}`,
	} {
		f.Add(s, "container", "exec_create: sh", "busybox:1", "web")
	}
	f.Fuzz(func(t *testing.T, s, kind, action, image, name string) {
		args, err := filters.FromJSON(s)
		if err != nil {
			return
		}
		r := &state.Container{Account: "admin", ID: "c1", Name: name, Image: image, Config: &container.Config{Labels: map[string]string{"a": "b"}}, Host: "h1"}
		e := containerEvent(r, events.Action(action), nil)
		e.Message.Type = events.Type(kind)
		eventFilter{account: "admin", until: time.Time{}, args: args}.include(e)
	})
}
