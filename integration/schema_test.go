//go:build integration

package integration

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// refused are the operations of which every answer is an error, each with the reason.
func refused() map[string]string {
	m := map[string]string{
		"POST /build":         "there is no builder yet",
		"POST /session":       "there is no builder yet",
		"PUT /volumes/{name}": "for cluster volumes, which only a swarm has",
	}
	for kind, ops := range map[string][]string{
		"an engine that is in no swarm": {
			"GET /swarm", "GET /swarm/unlockkey", "POST /swarm/init", "POST /swarm/join", "POST /swarm/leave", "POST /swarm/unlock", "POST /swarm/update",
			"GET /nodes", "GET /nodes/{id}", "DELETE /nodes/{id}", "POST /nodes/{id}/update",
			"GET /services", "GET /services/{id}", "GET /services/{id}/logs", "POST /services/create", "POST /services/{id}/update", "DELETE /services/{id}",
			"GET /tasks", "GET /tasks/{id}", "GET /tasks/{id}/logs",
			"GET /secrets", "GET /secrets/{id}", "POST /secrets/create", "POST /secrets/{id}/update", "DELETE /secrets/{id}",
			"GET /configs", "GET /configs/{id}", "POST /configs/create", "POST /configs/{id}/update", "DELETE /configs/{id}",
		},
		"there are no managed plugins": {
			"GET /plugins/privileges", "GET /plugins/{name}/json", "POST /plugins/create", "POST /plugins/pull", "DELETE /plugins/{name}",
			"POST /plugins/{name}/enable", "POST /plugins/{name}/disable", "POST /plugins/{name}/push", "POST /plugins/{name}/set", "POST /plugins/{name}/upgrade",
		},
	} {
		for _, op := range ops {
			m[op] = kind
		}
	}
	return m
}

// TestSchema asks a daemon everything the swagger file knows and wants every answer to be as it says.
func TestSchema(t *testing.T) {
	h := lab.NewWithBusybox(t)
	a := newAsker(t, h)
	for _, part := range []struct {
		name string
		ask  func(*asker)
	}{
		{"networks", askNetworks},
		{"volumes", askVolumes},
		{"creating", askCreating},
		{"states", askStates},
		{"lists", askLists},
		{"processes", askProcesses},
		{"control", askControl},
		{"streams", askStreams},
		{"exec", askExec},
		{"files", askFiles},
		{"images", askImages},
		{"registries", askRegistries},
		{"system", askSystem},
		{"old versions", askOld},
		{"removing", askRemoving},
		{"refusals", askRefusals},
		{"events", askEvents},
	} {
		t.Run(part.name, func(t *testing.T) { part.ask(a.in(t)) })
	}
	assert.Check(t, is.Len(a.silent(refused()), 0), "never asked, or never answered with a success, or refused no more")
	assert.Check(t, is.DeepEqual(slices.Sorted(maps.Keys(a.absent)), []string{"POST /build", "POST /session"}), "not implemented")
}

func askNetworks(a *asker) {
	var bridge struct{ ID string }
	a.ask(200, "GET /networks/bridge").into(a.t, &bridge)
	for _, ref := range []string{bridge.ID, bridge.ID[:12], "host", "none", "bridge?verbose=true&scope=local"} {
		a.ask(200, "GET /networks/"+ref)
	}
	for _, q := range []string{"", filter("type", "custom"), filter("driver", "bridge"), filter("label", "role=test"), filter("dangling", "true"), filter("name", "nosuch")} {
		a.ask(200, "GET /networks"+q)
	}
	a.ask(400, "GET /networks"+filter("colour", "red"))
	a.ask(404, "GET /networks/nosuch")
	a.ask(403, "POST /networks/create", object{"Name": "bridge"})
	a.ask(400, "POST /networks/create", "{")
	a.ask(403, "DELETE /networks/bridge")
	a.ask(404, "DELETE /networks/nosuch")

	a.ask(201, "POST /networks/create", object{
		"Name": "blue", "EnableIPv6": true, "Labels": object{"role": "test"}, "Options": object{"com.docker.network.driver.mtu": "1400"},
		"IPAM": object{"Config": []object{{"Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24", "AuxiliaryAddresses": object{"router": "172.28.5.7"}}}},
	})
	a.ask(409, "POST /networks/create", object{"Name": "blue"})
	a.ask(404, "POST /networks/create", object{"Name": "red", "Driver": "nosuch"})
	a.ask(200, "GET /networks/blue?verbose=true")
	a.ask(201, "POST /containers/create?name=netted", object{"Image": "busybox", "Cmd": []string{"sleep", "600"}})
	a.ask(204, "POST /containers/netted/start")
	a.ask(200, "POST /networks/blue/connect", object{"Container": "netted", "EndpointConfig": object{"Aliases": []string{"www"}}})
	a.ask(403, "POST /networks/blue/connect", object{"Container": "netted"})
	a.ask(404, "POST /networks/blue/connect", object{"Container": "nobody"})
	a.ask(400, "POST /networks/host/connect", object{"Container": "netted"})
	a.ask(200, "GET /networks/blue")
	a.ask(200, "GET /containers/netted/json")
	a.ask(403, "DELETE /networks/blue")
	a.ask(200, "POST /networks/blue/disconnect", object{"Container": "netted"})
	a.ask(500, "POST /networks/blue/disconnect", object{"Container": "netted"})
	a.ask(204, "DELETE /containers/netted?force=1")
	a.ask(204, "DELETE /networks/blue")
}

func askVolumes(a *asker) {
	a.ask(201, "POST /volumes/create", object{"Name": "vol", "Labels": object{"role": "test"}})
	a.ask(201, "POST /volumes/create", object{"Name": "tmp", "Driver": "local", "DriverOpts": object{"type": "none", "device": "/tmp", "o": "bind"}})
	a.ask(201, "POST /volumes/create", object{})
	a.ask(201, "POST /volumes/create", object{"Name": "vol"})
	a.ask(200, "GET /volumes/vol")
	a.ask(200, "GET /volumes/tmp")
	for _, q := range []string{"", filter("name", "vol"), filter("label", "role"), filter("dangling", "true"), filter("name", "nosuch")} {
		a.ask(200, "GET /volumes"+q)
	}
	a.ask(400, "GET /volumes"+filter("colour", "red"))
	a.ask(404, "GET /volumes/nosuch")
	a.ask(400, "POST /volumes/create", object{"Name": "a/b"})
	a.ask(404, "POST /volumes/create", object{"Name": "x", "Driver": "nosuch"})
	a.ask(503, "PUT /volumes/vol?version=1", object{})
	a.ask(404, "DELETE /volumes/nosuch")
	a.ask(204, "DELETE /volumes/tmp")
	a.ask(204, "DELETE /volumes/nosuch?force=1")
}

// rich is a container that uses much of what can be asked for.
func rich() object {
	return object{
		"Image": "busybox", "Hostname": "rich", "Domainname": "example.com", "User": "0:0", "WorkingDir": "/tmp", "Cmd": []string{"sleep", "600"},
		"Env": []string{"A=1", "EMPTY="}, "Labels": object{"role": "test", "empty": ""}, "StopSignal": "SIGINT", "StopTimeout": 3,
		"ExposedPorts": object{"80/tcp": object{}, "53/udp": object{}, "9/tcp": object{}}, "Volumes": object{"/anonymous": object{}},
		"Healthcheck": object{"Test": []string{"CMD", "true"}, "Interval": 1e9, "Timeout": 1e9, "Retries": 2, "StartPeriod": 1e9},
		"HostConfig": object{
			"Binds": []string{"/tmp:/host:ro", "vol:/data"}, "Tmpfs": object{"/scratch": "size=1m"},
			"Mounts":       []object{{"Type": "volume", "Source": "other", "Target": "/other"}, {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": object{"SizeBytes": 1 << 20}}, {"Type": "bind", "Source": "/tmp", "Target": "/b", "ReadOnly": true}},
			"PortBindings": object{"80/tcp": []object{{"HostPort": ""}, {"HostIp": "127.0.0.1", "HostPort": "8088"}}, "53/udp": []object{{"HostPort": "8053"}}},
			"NetworkMode":  "bridge", "RestartPolicy": object{"Name": "on-failure", "MaximumRetryCount": 2}, "Init": true,
			"CapAdd": []string{"NET_ADMIN"}, "CapDrop": []string{"MKNOD"}, "Dns": []string{"192.0.2.53"}, "DnsSearch": []string{"example.com"}, "DnsOptions": []string{"ndots:2"},
			"ExtraHosts": []string{"gw:host-gateway"}, "GroupAdd": []string{"50"}, "ShmSize": 8 << 20, "Sysctls": object{"net.ipv4.ip_forward": "1"},
			"Ulimits": []object{{"Name": "nofile", "Soft": 100, "Hard": 200}}, "Memory": 64 << 20, "NanoCpus": 5e8, "PidsLimit": 50,
			"Devices":   []object{{"PathOnHost": "/dev/null", "PathInContainer": "/dev/mynull", "CgroupPermissions": "rwm"}},
			"LogConfig": object{"Type": "json-file", "Config": object{"max-size": "1m"}}, "SecurityOpt": []string{"no-new-privileges"}, "OomScoreAdj": 10,
			"Annotations": object{"note": "x"},
		},
		"NetworkingConfig": object{"EndpointsConfig": object{"bridge": object{"MacAddress": "02:00:00:00:00:09", "DriverOpts": object{}}}},
	}
}

func askCreating(a *asker) {
	sleep := []string{"sleep", "600"}
	for name, config := range map[string]object{
		"created": {"Image": "busybox"},
		"rich":    rich(),
		"tty":     {"Image": "busybox", "Tty": true, "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Cmd": []string{"sh"}},
		"plain":   {"Image": "busybox", "Cmd": []string{"sh", "-c", "echo out; echo err >&2; touch /new; rm /www/index.html; exec sleep 600"}, "Labels": object{}},
		"paused":  {"Image": "busybox", "Cmd": sleep, "HostConfig": object{"PublishAllPorts": true}, "ExposedPorts": object{"7/tcp": object{}}},
		"exited":  {"Image": "busybox", "Cmd": []string{"sh", "-c", "echo bye; exit 3"}},
		"looping": {"Image": "busybox", "Cmd": []string{"false"}, "HostConfig": object{"RestartPolicy": object{"Name": "always"}}},
		"failing": {"Image": "busybox", "Cmd": []string{"nosuch"}},
		"host":    {"Image": "busybox", "Cmd": sleep, "HostConfig": object{"NetworkMode": "host", "PidMode": "host", "IpcMode": "private", "UTSMode": "host"}},
		"none":    {"Image": "busybox", "Cmd": sleep, "HostConfig": object{"NetworkMode": "none", "ReadonlyRootfs": true, "Privileged": true}},
	} {
		a.ask(201, "POST /containers/create?name="+name, config)
	}
	var bare struct{ Config map[string]any }
	a.ask(200, "GET /containers/created/json").into(a.t, &bare)
	assert.Check(a.t, is.Nil(bare.Config["Volumes"]))
	a.ask(204, "POST /containers/plain/start")
	a.ask(201, "POST /containers/create?name=joined", object{"Image": "busybox", "Cmd": sleep, "HostConfig": object{"NetworkMode": "container:plain", "VolumesFrom": []string{"rich:ro"}}})
	a.ask(201, "POST /containers/create?name=swapless", object{"Image": "busybox", "HostConfig": object{"Memory": 64 << 20, "MemorySwap": -1, "KernelMemory": 1 << 30, "OomKillDisable": true}})

	a.ask(404, "POST /containers/create", object{"Image": "nosuch"})
	a.ask(400, "POST /containers/create", object{"Image": "busybox", "HostConfig": object{"VolumesFrom": []string{"nosuch"}}})
	a.ask(409, "POST /containers/create?name=created", object{"Image": "busybox"})
	a.ask(400, "POST /containers/create?name=a%20b", object{"Image": "busybox"})
	a.ask(400, "POST /containers/create")
	a.ask(400, "POST /containers/create", "null")
	a.ask(400, "POST /containers/create", "{")
	a.ask(400, "POST /containers/create", object{"Image": "busybox", "HostConfig": object{"Memory": 1}})
	a.ask(400, "POST /containers/create", object{"Image": "busybox", "HostConfig": object{"Binds": []string{"relative/path:/x"}}})
	a.ask(400, "POST /containers/create?platform=a/b/c/d", object{"Image": "busybox"})
	a.put(400, question{line: "POST /containers/create", body: "Image=busybox", header: map[string]string{"Content-Type": "text/plain"}})
}

func askStates(a *asker) {
	for _, name := range []string{"rich", "tty", "paused", "exited", "looping", "host", "none", "joined"} {
		a.ask(204, "POST /containers/"+name+"/start")
	}
	a.ask(204, "POST /containers/paused/pause")
	a.ask(304, "POST /containers/rich/start")
	a.ask(400, "POST /containers/failing/start")
	a.ask(404, "POST /containers/nosuch/start")
	a.ask(200, "POST /containers/exited/wait")
	eventually(a.t, 30*time.Second, func() error {
		if s := status(a, "looping"); s != "restarting" {
			return fmt.Errorf("looping is %s", s)
		}
		return nil
	})
	for name, want := range map[string]string{"created": "created", "rich": "running", "tty": "running", "paused": "paused", "exited": "exited", "failing": "created", "host": "running", "none": "running", "joined": "running", "swapless": "created"} {
		assert.Check(a.t, is.Equal(status(a, name), want), name)
	}
	a.ask(404, "GET /containers/nosuch/json")
}

// status of a container, whose inspection is checked on the way, with and without sizes.
func status(a *asker, name string) string {
	a.t.Helper()
	var c struct {
		SizeRootFs *int64
		State      struct{ Status string }
	}
	a.ask(200, "GET /containers/"+name+"/json?size=1").into(a.t, &c)
	assert.Check(a.t, c.SizeRootFs != nil, name)
	a.ask(200, "GET /containers/"+name+"/json").into(a.t, &c)
	return c.State.Status
}

func askLists(a *asker) {
	var all []struct{ ID string }
	a.ask(200, "GET /containers/json?all=1&size=1").into(a.t, &all)
	assert.Check(a.t, is.Len(all, 12))
	for _, q := range []string{
		"", "?limit=2", "?all=1" + "&" + filter("name", "nosuch")[1:], filter("status", "paused"), filter("status", "created", "exited"), filter("exited", "3"), filter("label", "role=test"),
		filter("ancestor", "busybox"), filter("volume", "vol"), filter("network", "bridge"), filter("publish", "8088"), filter("expose", "9/tcp"), filter("health", "none"), filter("before", "rich"), filter("since", "created"),
	} {
		a.ask(200, "GET /containers/json"+q)
	}
	a.ask(400, "GET /containers/json"+filter("status", "asleep"))
	a.ask(400, "GET /containers/json"+filter("colour", "red"))
	a.ask(400, "GET /containers/json?filters=x")
	a.ask(404, "GET /containers/json"+filter("before", "nosuch"))
}

func askProcesses(a *asker) {
	for _, q := range []string{"", query("ps_args", "-eo pid,comm")} {
		a.ask(200, "GET /containers/plain/top"+q)
	}
	a.ask(409, "GET /containers/exited/top")
	a.ask(404, "GET /containers/nosuch/top")
	for _, name := range []string{"plain", "rich", "paused", "none", "host", "exited", "created"} {
		a.ask(200, "GET /containers/"+name+"/stats?stream=false")
	}
	a.ask(200, "GET /containers/plain/stats?stream=false&one-shot=true")
	a.ask(400, "GET /containers/plain/stats?stream=true&one-shot=true")
	a.ask(404, "GET /containers/nosuch/stats?stream=false")
	for name, want := range map[string]string{"created": "null", "exited": "null", "plain": `[{"Kind":1,"Path":"/new"},{"Kind":0,"Path":"/www"},{"Kind":2,"Path":"/www/index.html"}]`} {
		r := a.ask(200, "GET /containers/"+name+"/changes")
		assert.Check(a.t, is.Equal(strings.TrimSpace(string(r.body)), want), name)
	}
	a.ask(404, "GET /containers/nosuch/changes")
}

func askControl(a *asker) {
	a.ask(200, "POST /containers/plain/update", object{"Memory": 128 << 20, "MemorySwap": 256 << 20, "RestartPolicy": object{"Name": "unless-stopped"}})
	a.ask(404, "POST /containers/nosuch/update", object{})
	a.ask(400, "POST /containers/plain/update", object{"RestartPolicy": object{"Name": "sometimes"}})
	a.ask(204, "POST /containers/exited/rename?name=ended")
	a.ask(409, "POST /containers/ended/rename?name=plain")
	a.ask(400, "POST /containers/ended/rename?name=a%20b")
	a.ask(400, "POST /containers/ended/rename?name=ended")
	a.ask(404, "POST /containers/nosuch/rename?name=x")
	a.ask(200, "POST /containers/tty/resize?h=30&w=100")
	a.ask(400, "POST /containers/tty/resize?h=x&w=100")
	a.ask(409, "POST /containers/created/resize?h=30&w=100")
	a.ask(404, "POST /containers/nosuch/resize?h=30&w=100")
	a.ask(204, "POST /containers/paused/unpause")
	a.ask(500, "POST /containers/paused/unpause")
	a.ask(204, "POST /containers/paused/pause")
	a.ask(409, "POST /containers/paused/pause")
	a.ask(409, "POST /containers/created/pause")
	a.ask(404, "POST /containers/nosuch/pause")
	a.ask(404, "POST /containers/nosuch/unpause")
	a.ask(204, "POST /containers/host/kill?signal=SIGCONT")
	a.ask(204, "POST /containers/host/kill")
	a.ask(200, "POST /containers/host/wait?condition=not-running")
	a.ask(409, "POST /containers/host/kill")
	a.ask(400, "POST /containers/plain/kill?signal=SIGNONE")
	a.ask(404, "POST /containers/nosuch/kill")
	a.ask(204, "POST /containers/none/restart?t=0")
	a.ask(404, "POST /containers/nosuch/restart")
	a.ask(204, "POST /containers/none/stop?t=0&signal=SIGKILL")
	a.ask(304, "POST /containers/none/stop")
	a.ask(404, "POST /containers/nosuch/stop")
	a.ask(400, "POST /containers/plain/wait?condition=bored")
	a.ask(404, "POST /containers/nosuch/wait")
}

// upgrade asks for a connection of its own.
func upgrade(protocol string) map[string]string {
	return map[string]string{"Connection": "Upgrade", "Upgrade": protocol, "Content-Type": "application/json"}
}

func askStreams(a *asker) {
	for _, q := range []string{"?stdout=1&stderr=1", "?stdout=1&timestamps=1&tail=1", "?stderr=1&since=1&until=2", "?stdout=1&details=1"} {
		a.ask(200, "GET /containers/plain/logs"+q)
	}
	ended := a.ask(200, "GET /containers/ended/logs?stdout=1&follow=1")
	assert.Check(a.t, is.Contains(string(ended.body), "bye"))
	assert.Check(a.t, is.Equal(ended.header.Get("Content-Type"), "application/vnd.docker.multiplexed-stream"))
	tty := a.ask(200, "GET /containers/tty/logs?stdout=1")
	assert.Check(a.t, is.Equal(tty.header.Get("Content-Type"), "application/vnd.docker.raw-stream"))
	a.ask(400, "GET /containers/plain/logs")
	a.ask(404, "GET /containers/nosuch/logs?stdout=1")

	a.ask(200, "POST /containers/ended/attach?logs=1&stdout=1&stderr=1")
	a.put(101, question{line: "POST /containers/ended/attach?logs=1&stdout=1&stderr=1", header: upgrade("tcp")})
	a.ask(404, "POST /containers/nosuch/attach?stream=1&stdout=1")
	a.ask(409, "POST /containers/paused/attach?stream=1&stdout=1")
	a.ask(400, "POST /containers/plain/attach?stream=1&stdout=1&detachKeys=ctrl-nosuch")

	ws := upgrade("websocket")
	ws["Origin"], ws["Sec-WebSocket-Version"], ws["Sec-WebSocket-Key"] = "http://nereid", "13", "dGhlIHNhbXBsZSBub25jZQ=="
	a.put(101, question{line: "GET /containers/plain/attach/ws?stream=1&stdout=1", header: ws})
	a.ask(404, "GET /containers/nosuch/attach/ws?stream=1&stdout=1")
}

func askExec(a *asker) {
	exec := func(config object) (id string) {
		var made struct{ ID string }
		config["Env"] = []string{"A=1"}
		a.ask(201, "POST /containers/plain/exec", config).into(a.t, &made)
		return made.ID
	}
	plain := exec(object{"Cmd": []string{"sh", "-c", "echo hi; exit 4"}, "AttachStdout": true, "AttachStderr": true, "WorkingDir": "/tmp", "User": "nobody"})
	a.ask(200, "GET /exec/"+plain+"/json")
	out := a.put(101, question{line: "POST /exec/" + plain + "/start", body: object{}, header: upgrade("tcp")})
	assert.Check(a.t, is.Equal(string(out.body), "\x01\x00\x00\x00\x00\x00\x00\x03hi\n"))
	var done struct {
		ExitCode *int
		Running  bool
	}
	a.ask(200, "GET /exec/"+plain+"/json").into(a.t, &done)
	assert.Check(a.t, done.ExitCode != nil && *done.ExitCode == 4 && !done.Running)
	a.ask(409, "POST /exec/"+plain+"/start", object{"Detach": true}) // who attaches hears so on the stream
	a.ask(200, "POST /exec/"+exec(object{"Cmd": []string{"echo", "hi"}, "AttachStdout": true})+"/start", object{})

	tty := exec(object{"Cmd": []string{"sleep", "600"}, "Tty": true, "Privileged": true, "DetachKeys": "ctrl-a"})
	a.ask(200, "POST /exec/"+tty+"/start", object{"Detach": true, "Tty": true, "ConsoleSize": []int{20, 70}})
	a.ask(200, "GET /exec/"+tty+"/json")
	a.ask(200, "POST /exec/"+tty+"/resize?h=30&w=100")
	a.ask(400, "POST /exec/"+tty+"/resize?h=x&w=100")
	a.ask(200, "GET /containers/plain/json")
	for line, status := range map[string]int{"GET /exec/nosuch/json": 404, "POST /exec/nosuch/start": 404, "POST /exec/nosuch/resize?h=1&w=1": 404} {
		a.ask(status, line, object{})
	}
	cmd := object{"Cmd": []string{"true"}}
	a.ask(400, "POST /containers/plain/exec", object{})
	a.ask(404, "POST /containers/nosuch/exec", cmd)
	a.ask(409, "POST /containers/ended/exec", cmd)
	a.ask(409, "POST /containers/paused/exec", cmd)
}

// tarball is an archive of one file.
func tarball(t *testing.T, name, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	assert.NilError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}))
	_, err := w.Write([]byte(body))
	assert.NilError(t, err)
	assert.NilError(t, w.Close())
	return b.Bytes()
}

func askFiles(a *asker) {
	file := tarball(a.t, "file", "hello\n")
	for _, name := range []string{"plain", "created", "ended"} {
		at := "/containers/" + name + "/archive"
		a.ask(200, "PUT "+at+"?path=/tmp", file)
		a.ask(200, "GET "+at+"?path=/tmp/file")
		head := a.ask(200, "HEAD "+at+"?path=/tmp/file")
		assert.Check(a.t, head.header.Get("X-Docker-Container-Path-Stat") != "")
		a.ask(404, "PUT "+at+"?path=/nosuch", file)
		a.ask(404, "GET "+at+"?path=/nosuch")
		a.ask(404, "HEAD "+at+"?path=/nosuch")
		a.ask(400, "PUT "+at+"?path=/tmp/file", file)
		a.ask(400, "GET "+at)
		a.ask(400, "HEAD "+at)
	}
	a.ask(404, "PUT /containers/nosuch/archive?path=/", file)
	a.ask(404, "GET /containers/nosuch/archive?path=/")
	a.ask(404, "HEAD /containers/nosuch/archive?path=/")
	a.ask(400, "PUT /containers/none/archive?path=/", file)
	a.ask(200, "GET /containers/created/export")
	a.ask(404, "GET /containers/nosuch/export")
	a.ask(201, "POST /commit"+query("container", "created", "comment", "why", "changes", "ENV A=1"))
	a.ask(400, "POST /commit"+query("container", "created", "changes", "FROM x"))
	a.ask(404, "POST /commit"+query("container", "nosuch"))
}

func askImages(a *asker) {
	for _, ref := range []string{"busybox", "busybox:latest"} {
		a.ask(200, "GET /images/"+ref+"/json")
		a.ask(200, "GET /images/"+ref+"/history")
	}
	a.ask(200, "GET /images/busybox/json?manifests=1")
	a.ask(201, "POST /images/busybox/tag?repo=bb&tag=1")
	a.ask(201, "POST /images/busybox/tag?repo=example.com/deep/bb")
	a.ask(400, "POST /images/busybox/tag?repo=A%20B")
	a.ask(404, "POST /images/nosuch/tag?repo=x")
	var id struct{ ID string }
	a.ask(200, "GET /images/example.com/deep/bb/json").into(a.t, &id)
	a.ask(200, "GET /images/"+id.ID+"/json")
	for _, q := range []string{"", "?all=1", "?shared-size=1&digests=1", "?manifests=1", filter("dangling", "true"), filter("reference", "bb"), filter("label", "x"), filter("before", "bb:1"), filter("since", "busybox")} {
		a.ask(200, "GET /images/json"+q)
	}
	a.ask(400, "GET /images/json"+filter("colour", "red"))
	a.ask(404, "GET /images/nosuch/json")
	a.ask(404, "GET /images/nosuch/history")
	saved := a.ask(200, "GET /images/busybox/get")
	a.ask(200, "GET /images/get?names=busybox&names=bb:1")
	a.ask(404, "GET /images/nosuch/get")
	a.progress(question{line: "POST /images/load?quiet=0", body: saved.body, header: map[string]string{"Content-Type": "application/x-tar"}})
	a.ask(200, "POST /images/load", "this is no archive")
	a.progress(question{line: "POST /images/create" + query("fromSrc", "-", "repo", "imported", "tag", "1", "message", "m", "changes", "ENV X=1"), body: tarball(a.t, "file", "x"), header: map[string]string{"Content-Type": "application/x-tar"}})
	a.ask(200, "GET /images/imported:1/json")
	a.ask(200, "GET /images/imported:1/history")
	a.ask(200, "DELETE /images/bb:1")
	a.ask(200, "DELETE /images/example.com/deep/bb")
	a.ask(409, "DELETE /images/busybox")
	a.ask(200, "DELETE /images/imported:1?force=1&noprune=1")
	a.ask(404, "DELETE /images/nosuch")
	a.ask(200, "POST /images/prune"+filter("dangling", "true"))
	a.ask(400, "POST /images/prune"+filter("colour", "red"))
}

func askRegistries(a *asker) {
	open, private := serveRegistry(a.t, a.host, ""), serveRegistry(a.t, a.host, "ann")
	push := func(ref string, auth map[string]string) question {
		a.ask(201, "POST /images/busybox/tag?repo="+ref+"&tag=1")
		return question{line: "POST /images/" + ref + "/push?tag=1", header: auth}
	}
	a.progress(push(open.addr+"/a/bb", registryAuth("", "")))
	a.progress(push(private.addr+"/a/bb", registryAuth("ann", "secret")))
	a.ask(200, "POST /images/"+open.addr+"/nosuch/push?tag=1") // and an error in the stream
	a.ask(200, "GET /distribution/"+open.addr+"/a/bb:1/json")
	a.put(200, question{line: "GET /distribution/" + private.addr + "/a/bb:1/json", header: registryAuth("ann", "secret")})
	a.put(401, question{line: "GET /distribution/" + private.addr + "/a/bb:1/json", header: registryAuth("ann", "wrong")})
	a.ask(404, "GET /distribution/"+open.addr+"/a/nosuch/json")
	a.ask(400, "GET /distribution/A%20B/json")
	a.ask(200, "GET /images/"+open.addr+"/a/bb:1/json")
	a.ask(200, "DELETE /images/"+open.addr+"/a/bb:1")
	a.progress(question{line: "POST /images/create" + query("fromImage", open.addr+"/a/bb", "tag", "1")})
	a.ask(404, "POST /images/create"+query("fromImage", open.addr+"/a/bb", "tag", "nosuch"))
	a.ask(400, "POST /images/create"+query("fromImage", "A B"))
	a.ask(200, "POST /auth", object{"username": "ann", "password": "secret", "serveraddress": private.addr})
	a.ask(500, "POST /auth", object{"username": "ann", "password": "wrong", "serveraddress": private.addr})

	index := serveIndex(a.t, a.host)
	var found []struct{ Name string }
	a.ask(200, "GET /images/search"+query("term", index+"/bb", "limit", "5")).into(a.t, &found)
	assert.Check(a.t, is.Len(found, 1))
	a.ask(200, "GET /images/search"+query("term", index+"/bb", "filters", object{"stars": []string{"100"}}))
	a.ask(400, "GET /images/search?term=x&limit=1000")
	a.ask(400, "GET /images/search?term=x&"+filter("colour", "red")[1:])
}

// serveIndex is a registry that can be searched.
func serveIndex(t *testing.T, h *lab.Host) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/search" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"num_results":1,"query":"bb","results":[{"name":"a/bb","description":"d","star_count":7,"is_official":true,"is_automated":false}]}`)
	}))
	srv.Listener.Close()
	srv.Listener = h.Listen(t, "127.0.0.1:0")
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func askSystem(a *asker) {
	for _, line := range []string{"GET /_ping", "HEAD /_ping"} {
		r := a.ask(200, line)
		for _, name := range []string{"Api-Version", "Ostype", "Builder-Version", "Docker-Experimental", "Swarm", "Server"} {
			assert.Check(a.t, r.header.Get(name) != "", "%s: no %s", line, name)
		}
	}
	var v struct{ Version, GitCommit, BuildTime, GoVersion, KernelVersion string }
	a.ask(200, "GET /version").into(a.t, &v)
	for _, text := range []string{v.Version, v.GitCommit, v.BuildTime, v.GoVersion, v.KernelVersion} {
		assert.Check(a.t, text != "", "%+v", v)
	}
	a.ask(200, "GET /info")
	for _, q := range []string{"", "?type=container", "?type=image", "?type=volume", "?type=build-cache", "?type=container&type=image&type=volume&type=build-cache"} {
		a.ask(200, "GET /system/df"+q)
	}
	a.ask(400, "GET /system/df?type=weather")
	a.ask(200, "GET /plugins")
	a.ask(400, "GET /plugins"+filter("colour", "red"))
	a.ask(200, "POST /build/prune")
	for version, kind := range map[string]string{"1.23": "text/plain; charset=utf-8", "1.99": "application/json"} {
		status, r := a.do(http.MethodGet, "/v"+version+"/info", question{})
		assert.Check(a.t, is.Equal(status, 400), "%s", r.body)
		assert.Check(a.t, is.Equal(r.header.Get("Content-Type"), kind), "%s", r.body)
	}
	status, r := a.do(http.MethodGet, "/v1.51/nosuch", question{})
	assert.Check(a.t, is.Equal(status, 404))
	assert.Check(a.t, is.Equal(strings.TrimSpace(string(r.body)), `{"message":"page not found"}`))
}

// askOld reads the main things as old clients do; the file is of the newest version, so only the status is checked.
func askOld(a *asker) {
	for _, version := range []string{"1.24", "1.41"} {
		for _, path := range []string{
			"/containers/json?all=1&size=1", "/containers/rich/json", "/containers/plain/stats?stream=false", "/containers/plain/top", "/containers/plain/changes", "/images/json", "/images/busybox/json", "/images/busybox/history",
			"/networks", "/networks/bridge", "/volumes", "/volumes/vol", "/info", "/version", "/events?since=1&until=2", "/plugins",
		} {
			status, r := a.do(http.MethodGet, "/v"+version+path, question{})
			assert.Check(a.t, is.Equal(status, 200), "%s %s: %.300s", version, path, r.body)
			assert.Check(a.t, len(r.body) == 0 || json.Valid(r.body), "%s %s: %.300s", version, path, r.body)
		}
	}
}

func askRemoving(a *asker) {
	a.ask(409, "DELETE /containers/plain")
	a.ask(404, "DELETE /containers/nosuch")
	a.ask(409, "DELETE /volumes/vol")
	a.ask(204, "DELETE /containers/joined?force=1&v=1")
	a.ask(204, "DELETE /containers/rich?force=1&v=1")
	a.ask(204, "DELETE /containers/paused?force=1")
	a.ask(204, "DELETE /containers/looping?force=1")
	var gone struct{ ContainersDeleted []string }
	a.ask(200, "POST /containers/prune").into(a.t, &gone)
	assert.Check(a.t, len(gone.ContainersDeleted) > 0)
	a.ask(200, "POST /containers/prune"+filter("until", "1h"))
	a.ask(400, "POST /containers/prune"+filter("colour", "red"))
	var volumes struct{ VolumesDeleted []string }
	a.ask(200, "POST /volumes/prune"+filter("all", "true")).into(a.t, &volumes)
	assert.Check(a.t, is.Contains(volumes.VolumesDeleted, "vol"))
	a.ask(200, "POST /volumes/prune")
	a.ask(200, "POST /networks/prune")
	a.ask(200, "POST /images/prune"+filter("dangling", "false"))
}

// askRefusals asks for what a fleet is not and has not.
func askRefusals(a *asker) {
	for op := range refused() {
		line := strings.NewReplacer("{id}", "x", "{name}", "x").Replace(op)
		status := http.StatusServiceUnavailable
		switch {
		case strings.Contains(line, "/plugins/x"):
			status = http.StatusNotFound
		case strings.Contains(line, "/plugins/"):
			status = http.StatusForbidden
		case strings.Contains(line, "/build"), strings.Contains(line, "/session"):
			status = http.StatusNotImplemented
		}
		a.put(status, question{line: line, body: object{}})
	}
}

// askEvents wants all that the test did to be told.
func askEvents(a *asker) {
	until := fmt.Sprint(time.Now().Unix() + 1)
	r := a.ask(200, "GET /events"+query("since", fmt.Sprint(a.began-1), "until", until))
	told := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(r.body))
	for dec.More() {
		var e struct{ Type, Action string }
		assert.NilError(a.t, dec.Decode(&e))
		action, _, _ := strings.Cut(e.Action, ":")
		told[e.Type+" "+action] = true
	}
	for _, want := range []string{
		"container create", "container start", "container die", "container kill", "container stop", "container restart", "container pause", "container unpause", "container rename", "container update", "container resize",
		"container destroy", "container attach", "container export", "container top", "container archive-path", "container extract-to-dir", "container exec_create", "container exec_start", "container exec_die", "container prune",
		"image tag", "image untag", "image delete", "image load", "image save", "image import", "image push", "image pull", "image prune",
		"network connect", "network disconnect", "volume create", "volume mount", "volume unmount", "volume destroy", "volume prune",
	} {
		assert.Check(a.t, told[want], "no event %q", want)
	}
	a.ask(200, "GET /events"+query("since", "1", "until", until, "filters", map[string][]string{"type": {"network"}, "event": {"create"}}))
	a.ask(400, "GET /events?since=2&until=1")
	a.ask(500, "GET /events?since=x") // as Docker: no class of error
	a.ask(400, "GET /events"+query("until", "1", "filters", "x"))
}
