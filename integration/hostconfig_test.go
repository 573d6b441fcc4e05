//go:build integration

package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// unified tells whether this machine has cgroup v2.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// knob is a shell line that prints a container's setting, by the name it has in each cgroup version.
func knob(v1, v2 string) string {
	if unified() {
		return "cat /sys/fs/cgroup/" + v2
	}
	return "cat /sys/fs/cgroup/" + v1
}

// either is what a setting reads in each cgroup version.
func either(v1, v2 string) string {
	if unified() {
		return v2
	}
	return v1
}

// disk is a block device of this machine, which throttles can name.
func disk(t *testing.T) string {
	t.Helper()
	all, err := filepath.Glob("/sys/block/*")
	assert.NilError(t, err)
	for _, path := range all {
		name := filepath.Base(path)
		if _, err := os.Stat("/dev/" + name); err == nil && !strings.HasPrefix(name, "loop") && !strings.HasPrefix(name, "ram") {
			return "/dev/" + name
		}
	}
	t.Skip("no block device")
	return ""
}

func TestResources(t *testing.T) {
	h := lab.NewWithBusybox(t)
	dev := disk(t)
	inside := func(flags, line string) string {
		return "run --rm --network none " + flags + " busybox sh -c '" + line + "'"
	}
	refused := func(name, flags, words string) cliCase {
		return cliCase{name: name, args: "run --rm --network none " + flags + " busybox true", code: 125, stderr: words}
	}
	runCases(t, h, []cliCase{
		{name: "memory", args: inside("-m 32m", knob("memory/memory.limit_in_bytes", "memory.max")), out: "33554432"},
		{name: "reservation", args: inside("--memory-reservation 16m", knob("memory/memory.soft_limit_in_bytes", "memory.low")), out: "16777216"},
		{name: "cpus", args: inside("--cpus 0.5", knob("cpu/cpu.cfs_quota_us", "cpu.max")), out: either("50000", "50000 100000")},
		{name: "quota and period", args: inside("--cpu-quota 25000 --cpu-period 50000", knob("cpu/cpu.cfs_quota_us", "cpu.max")), out: either("25000", "25000 50000")},
		{name: "cpuset", args: inside("--cpuset-cpus 0 --cpuset-mems 0", knob("cpuset/cpuset.cpus", "cpuset.cpus")), out: "0"},
		{name: "pids", args: inside("--pids-limit 50", knob("pids/pids.max", "pids.max")), out: "50"},
		{name: "no limit of pids", args: inside("--pids-limit -1", knob("pids/pids.max", "pids.max")), out: "max"},
		{name: "throttle", args: inside("--device-read-bps "+dev+":1mb", knob("blkio/blkio.throttle.read_bps_device", "io.max")+" | grep -o 1048576"), out: "1048576"},
		{name: "throttled requests", args: inside("--device-write-iops "+dev+":77", knob("blkio/blkio.throttle.write_iops_device", "io.max")+" | grep -o 77"), out: "77"},
		{name: "oom score", args: inside("--oom-score-adj 500", "cat /proc/self/oom_score_adj"), out: "500"},
		{name: "swap alone", args: "run --rm --memory-swap 16m busybox true", code: 125, stderr: "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{name: "no limit but no killer", args: "run --rm --network none --oom-kill-disable busybox true",
			stderr: either("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.", "Your kernel does not support OomKillDisable. OomKillDisable discarded.")},
		refused("reservation above limit", "-m 32m --memory-reservation 64m", "Minimum memory limit can not be less than memory reservation limit, see usage"),
		refused("cpus and quota", "--cpus 1 --cpu-quota 5000", "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
		refused("too many cpus", "--cpus 2000", "range of CPUs is from 0.01 to "),
		refused("no such cpu", "--cpuset-cpus 7777", "Requested CPUs are not available - requested 7777, available: "),
		refused("no such memory node", "--cpuset-mems 77", "Requested memory nodes are not available - requested 77, available: "),
		refused("short period", "--cpu-period 5", "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
		refused("oom score out of range", "--oom-score-adj 5000", "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
		{name: "throttle of nothing", args: "run --rm --network none --device-read-bps /dev/nosuch:1mb busybox true", code: 127, stderr: "stat /dev/nosuch: no such file or directory"},
	})
	if h.Docker(t, "info", "-f", "{{.SwapLimit}}") == "true" {
		runCases(t, h, []cliCase{
			refused("swap below memory", "-m 32m --memory-swap 16m", "Minimum memoryswap limit should be larger than memory limit, see usage"),
			{name: "swap", args: inside("-m 32m --memory-swap 48m", knob("memory/memory.memsw.limit_in_bytes", "memory.swap.max")), out: either("50331648", "16777216")},
		})
	}
}

func TestUpdateOfAllResources(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--network", "none", "--name", "up", "-m", "64m", "--cpus", "1", "busybox", "sleep", "600")
	read := func(line string) string { return h.Docker(t, "exec", "up", "sh", "-c", line) }
	steps := []struct{ flags, line, want string }{
		{"-m 90m --memory-swap 100m", knob("memory/memory.limit_in_bytes", "memory.max"), "94371840"},
		{"--memory-swap -1", knob("memory/memory.memsw.limit_in_bytes", "memory.swap.max"), either("9223372036854771712", "max")},
		{"--memory-reservation 20m", knob("memory/memory.soft_limit_in_bytes", "memory.low"), "20971520"},
		{"--cpus 0.5", knob("cpu/cpu.cfs_quota_us", "cpu.max"), either("50000", "50000 100000")},
		{"--cpuset-cpus 0", knob("cpuset/cpuset.cpus", "cpuset.cpus"), "0"},
		{"--pids-limit 33", knob("pids/pids.max", "pids.max"), "33"},
		{"--pids-limit -1", knob("pids/pids.max", "pids.max"), "max"},
	}
	if !unified() {
		steps = append(steps, struct{ flags, line, want string }{"--cpu-shares 77", knob("cpu/cpu.shares", ""), "77"})
	}
	for _, s := range steps {
		t.Run(s.flags, func(t *testing.T) {
			h.Docker(t, append([]string{"update", "up"}, strings.Fields(s.flags)...)...)
			assert.Equal(t, read(s.line), s.want)
		})
	}
	t.Run("paused", func(t *testing.T) {
		h.Docker(t, "pause", "up")
		h.Docker(t, "update", "--pids-limit", "44", "up")
		h.Docker(t, "unpause", "up")
		assert.Equal(t, read(knob("pids/pids.max", "pids.max")), "44")
	})
	runCases(t, h, []cliCase{
		{name: "quota beside cpus", args: "update --cpu-quota 5000 up", code: 1, stderr: "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"},
		{name: "too little memory", args: "update -m 1m up", code: 1, stderr: "Minimum memory limit allowed is 6MB"},
		{name: "no such cpu", args: "update --cpuset-cpus 7777 up", code: 1, stderr: "Requested CPUs are not available - requested 7777"},
		{name: "restart policy", args: "update --restart on-failure:3 up", out: "up"},
		{name: "is kept", args: "inspect -f '{{.HostConfig.RestartPolicy}} {{.HostConfig.PidsLimit}}' up", out: "{on-failure 3} 44"},
		{name: "retries without reason", args: "update --restart always:3 up", code: 1, stderr: "maximum retry count can only be used with 'on-failure'"},
		{name: "no such container", args: "update -m 64m nosuch", code: 1, stderr: "No such container: nosuch"},
	})
	t.Run("what stays as it is", func(t *testing.T) {
		warnings := post(t, h, "/containers/up/update", `{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":1}],"BlkioDeviceReadBps":[]}`)["Warnings"]
		assert.DeepEqual(t, warnings, []any{"Ulimits cannot be changed by an update. Setting discarded."})
	})
	t.Run("after the next start", func(t *testing.T) {
		h.Docker(t, "restart", "-t", "0", "up")
		assert.Equal(t, read(knob("memory/memory.limit_in_bytes", "memory.max")), "94371840")
	})
}

// post sends JSON to the API and wants an answer in JSON.
func post(t *testing.T, h *lab.Host, path, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://nereid"+path, strings.NewReader(body))
	assert.NilError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := h.Client().Do(req)
	assert.NilError(t, err)
	defer res.Body.Close()
	answer := map[string]any{}
	assert.NilError(t, json.NewDecoder(res.Body).Decode(&answer))
	return answer
}

func TestNamespaces(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--network", "none", "--name", "private", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--network", "none", "--name", "shareable", "--ipc", "shareable", "busybox", "sleep", "600")
	h.Docker(t, "create", "--network", "none", "--name", "stopped", "--ipc", "shareable", "busybox", "true")
	t.Cleanup(func() { // Docker leaves a parent that the user named, and so do we
		eventually(t, 30*time.Second, func() error { // the container in it goes behind its record
			below, _ := filepath.Glob("/sys/fs/cgroup/*/nereid-" + h.Name + "/below")
			for _, dir := range append(below, "/sys/fs/cgroup/nereid-"+h.Name+"/below") {
				if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
					return err
				}
			}
			return nil
		})
	})
	run := "run --rm --network none "
	runCases(t, h, []cliCase{
		{name: "pid of another", args: run + "--pid container:private busybox sh -c 'tr \"\\0\" \" \" </proc/1/cmdline'", out: "sleep 600"},
		{name: "pid of nobody", args: run + "--pid container:nosuch busybox true", code: 125, stderr: "No such container: nosuch"},
		{name: "pid of a stopped one", args: run + "--pid container:stopped busybox true", code: 125, stderr: "is not running"},
		{name: "ipc of another", args: run + "--ipc container:shareable busybox sh -c 'echo hi >/dev/shm/x'"},
		{name: "is shared", args: "exec shareable cat /dev/shm/x", out: "hi"},
		{name: "ipc of a private one", args: run + "--ipc container:private busybox true", code: 125, stderr: "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"},
		{name: "ipc of a stopped one", args: run + "--ipc container:stopped busybox true", code: 125, stderr: "failed to join IPC namespace: "},
		{name: "ipc none", args: run + "--ipc none busybox sh -c 'grep -c /dev/shm /proc/mounts'", out: "0", code: 1},
		{name: "uts of the host", args: run + "--uts host busybox hostname", out: strings.TrimSpace(h.On(t, "hostname").Stdout)},
		{name: "hostname in the host's uts", args: run + "--uts host -h box busybox true", code: 125, stderr: "conflicting options: hostname and the UTS mode"},
		{name: "private cgroups", args: run + "--cgroupns private busybox sh -c 'cut -d: -f3 /proc/self/cgroup | sort -u'", out: "/"},
		{name: "the host's cgroups", args: run + "--cgroupns host busybox sh -c 'grep -c nereid- /proc/self/cgroup >/dev/null && echo seen'", out: "seen"},
		{name: "cgroup parent", args: run + "--cgroupns host --cgroup-parent /nereid-" + h.Name + "/below busybox sh -c 'grep -c nereid-" + h.Name + "/below/ /proc/self/cgroup >/dev/null && echo seen'", out: "seen"},
		{name: "sysctl of ipc", args: run + "--sysctl kernel.shmmax=12345 busybox cat /proc/sys/kernel/shmmax", out: "12345"},
		{name: "sysctl of the host's ipc", args: run + "--ipc host --sysctl kernel.shmmax=12345 busybox true", code: 125, stderr: `sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace`},
		{name: "sysctl of the host's network", args: "run --rm --network host --sysctl net.ipv4.ip_forward=1 busybox true", code: 125, stderr: `sysctl "net.ipv4.ip_forward" not allowed in host network namespace`},
		{name: "domainname", args: run + "--domainname example.com busybox cat /proc/sys/kernel/domainname", out: "example.com"},
	})
}

func TestSecurityOptions(t *testing.T) {
	h := lab.NewWithBusybox(t)
	profile := filepath.Join(t.TempDir(), "profile.json")
	assert.NilError(t, os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`), 0o644))
	run := "run --rm --network none "
	runCases(t, h, []cliCase{
		{name: "seccomp of one's own", args: run + "--security-opt seccomp=" + profile + " busybox mkdir /x", code: 1, stderr: "Operation not permitted"},
		{name: "no-new-privileges", args: run + "--security-opt no-new-privileges=true busybox grep NoNewPrivs /proc/self/status", out: "NoNewPrivs:\t1"},
		{name: "unknown option", args: run + "--security-opt foo=bar busybox true", code: 125, stderr: `invalid --security-opt 2: "foo=bar"`},
		{name: "label", args: run + "--security-opt label=type:web busybox echo ran", out: "ran", stderr: "SELinux is not supported. Security option label=type:web discarded."},
		{name: "labels off", args: run + "--security-opt label=disable busybox true"},
		{name: "masked", args: run + "busybox sh -c 'cat /proc/keys | wc -c'", out: "0"},
		{name: "not masked", args: run + "--security-opt systempaths=unconfined busybox sh -c 'grep -c \" /proc/\" /proc/mounts'", out: "0", code: 1},
		{name: "write-protected", args: run + "busybox sh -c 'echo 1 >/proc/sys/vm/drop_caches'", code: 1, stderr: "Read-only file system"},
		{name: "read-only root", args: run + "--read-only --tmpfs /scratch busybox sh -c 'touch /scratch/x && touch /x'", code: 1, stderr: "Read-only file system"},
		{name: "device read-only", args: run + "--device /dev/loop-control:/dev/z:r busybox sh -c ': </dev/z && echo read; : >/dev/z'", out: "read", code: 1, stderr: "Operation not permitted"},
		{name: "device that is not there", args: run + "--device /dev/nosuch busybox true", code: 127, stderr: `error gathering device information while adding custom device "/dev/nosuch": no such file or directory`},
		{name: "device rule", args: run + "--device-cgroup-rule 'c 1:5 rwm' --cap-add MKNOD busybox sh -c 'mknod /z c 1 5 && head -c 4 /z | wc -c'", out: "4"},
		{name: "gpus", args: run + "--gpus all busybox true", code: 125, stderr: `could not select device driver "" with capabilities: [[gpu]]`},
		{name: "groups", args: run + "--group-add 77 --group-add staff busybox id -G", out: "0 50 77"},
		{name: "no such group", args: run + "--group-add nosuch busybox true", code: 125, stderr: "unable to find group nosuch: no matching entries in group file"},
		{name: "working directory that is a file", args: run + "-w /etc/passwd busybox true", code: 125, stderr: "Cannot mkdir: /etc/passwd is not a directory\n"},
		{name: "runtime", args: run + "--runtime nosuch busybox true", code: 125, stderr: "unknown or invalid runtime name: nosuch"},
		{name: "user namespace of the host", args: run + "--userns host busybox cat /proc/self/uid_map", out: "~4294967295"},
		{name: "privileged says so", args: "run --rm --network none --privileged --name priv busybox true"},
	})
	h.Docker(t, "create", "--name", "priv", "--privileged", "busybox", "true")
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{json .HostConfig.SecurityOpt}}", "priv"), `["label=disable"]`)
}

// TestWhatContainersHaveOfOthers: what containers have of each other: links, volumes, images.
func TestWhatContainersHaveOfOthers(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "db", "-e", "USER=me", "--expose", "5432", "busybox", "sleep", "600")
	h.Docker(t, "run", "--rm", "-v", "parts:/v", "busybox", "sh", "-c", "mkdir /v/sub; echo part >/v/sub/file")
	h.Docker(t, "create", "--name", "holder", "-v", "parts:/v", "--mount", "type=image,source=busybox,target=/image", "busybox", "true")
	addr := h.Docker(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db")
	image := "run --rm --network none --mount type=image,source=busybox,target=/image"
	runCases(t, h, []cliCase{
		{name: "link", args: "run --rm --link db:my-db busybox sh -c 'echo $MY_DB_PORT $MY_DB_ENV_USER'", out: "tcp://" + addr + ":5432 me"},
		{name: "link overridden", args: "run --rm --link db:my-db -e MY_DB_PORT=mine busybox sh -c 'echo $MY_DB_PORT'", out: "mine"},
		{name: "link to nobody", args: "run --rm --link nosuch busybox true", code: 125, stderr: "could not get container for nosuch: No such container: nosuch"},
		{name: "linked", args: "run -d --name asker --link db:my-db busybox sleep 600", out: "~"},
		{name: "name by a link", args: "ps --no-trunc --filter name=db --format {{.Names}}", out: "asker/my-db,db"},
		{name: "a link ended", args: "stop -t 0 db", out: "db"},
		{name: "its address taken", args: "run -d --name squatter busybox sleep 600", out: "~"}, // a name that Docker invents may hold "db"
		{name: "a link started", args: "start db", out: "db"},
		{name: "a link where it is now", args: "exec asker sh -c 'test $(grep -c my-db /etc/hosts) = 1 && ping -c 1 my-db >/dev/null'"},
		{name: "a link without an alias", args: "rm --link db", code: 1, stderr: "Conflict, cannot remove the default link name of the container"},
		{name: "no such link", args: "rm --link asker/nosuch", code: 1, stderr: "No such container: asker/nosuch"},
		{name: "link removed", args: "rm --link asker/my-db", out: "asker/my-db"},
		{name: "link gone", args: "exec asker grep my-db /etc/hosts", code: 1},
		{name: "link gone, the container not", args: "ps --no-trunc --filter name=db --format {{.Names}}", out: "db"},
		{name: "image", args: image + " busybox cat /image/www/index.html", out: "hello from busybox"},
		{name: "image is read-only", args: image + " busybox touch /image/x", code: 1, stderr: "Read-only file system"},
		{name: "part of an image", args: image + ",image-subpath=www busybox ls /image", out: "index.html"},
		{name: "file of an image", args: image + ",image-subpath=etc/group busybox head -1 /image", out: "root:x:0:"},
		{name: "missing part", args: image + ",image-subpath=nosuch busybox true", code: 127, stderr: "nosuch: no such file or directory"},
		{name: "part outside", args: image + ",image-subpath=../x busybox true", code: 125, stderr: "subpath must be a relative path within the volume"},
		{name: "part of a volume", args: "run --rm --mount type=volume,source=parts,target=/p,volume-subpath=sub busybox cat /p/file", out: "part"},
		{name: "volumes from", args: "run --rm --volumes-from holder busybox sh -c 'cat /v/sub/file; ls /image/www'", out: "part\nindex.html"},
		{name: "volumes from, read-only", args: "run --rm --volumes-from holder:ro busybox touch /v/x", code: 1, stderr: "Read-only file system"},
		{name: "volumes from nobody", args: "run --rm --volumes-from nosuch busybox true", code: 125, stderr: "No such container: nosuch"},
	})
	t.Run("the image goes, the mount stays", func(t *testing.T) {
		h.Load(t, "other:latest", lab.AddLayer(t, lab.Busybox(t), []lab.File{{Name: "extra", Body: "more\n", Mode: 0o644}}))
		h.Docker(t, "run", "-d", "--name", "keeper", "--mount", "type=image,source=other,target=/image", "busybox", "sleep", "600")
		h.Docker(t, "rmi", "-f", "other")
		h.Docker(t, "restart", "-t", "0", "keeper")
		assert.Equal(t, h.Docker(t, "exec", "keeper", "cat", "/image/extra"), "more")
		mount := h.Docker(t, "inspect", "-f", "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}", "keeper")
		assert.Equal(t, mount, "image other /image false")
	})
}

const boardSpec = `{"cdiVersion": "0.5.0", "kind": "vendor.com/board", "containerEdits": {"env": ["BOARD=yes"]},
"devices": [{"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/board", "hostPath": "/dev/zero"}]}}]}`

func TestHostFlags(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "board.json"), []byte(boardSpec), 0o644))
	h := lab.NewWithBusybox(t, "--cdi-spec-dir", dir, "--add-runtime", "second="+filepath.Join(lab.Bin(t), "runc"), "--add-runtime", "gone=/no/such/runc")
	run := "run --rm --network none "
	runCases(t, h, []cliCase{
		{name: "CDI device", args: run + "--device vendor.com/board=one busybox sh -c 'echo $BOARD; head -c 4 /dev/board | wc -c'", out: "yes\n4"},
		{name: "no such device", args: run + "--device vendor.com/board=two busybox true", code: 125, stderr: "CDI device injection failed: unresolvable CDI devices vendor.com/board=two"},
		{name: "second runtime", args: run + "--runtime second busybox echo ran", out: "ran"},
		{name: "runtime that is not there", args: run + "--runtime gone busybox true", code: 127, stderr: "/no/such/runc"},
		{name: "info", args: "info -f '{{len .Runtimes}} {{.DefaultRuntime}} {{.CDISpecDirs}} {{range .DiscoveredDevices}}{{.ID}}{{end}}'", out: "4 runc [" + dir + "] vendor.com/board=one"},
	})
	h.Docker(t, "run", "-d", "--name", "kept", "--network", "none", "--runtime", "second", "busybox", "sleep", "600")
	h.Kill9(t)
	h.Start(t)
	assert.Equal(t, h.Docker(t, "exec", "kept", "echo", "on"), "on")
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.HostConfig.Runtime}}", "kept"), "second")
}

// TestDeviceRequestFailsTheStart is for tools that create first: Docker keeps such a container.
func TestDeviceRequestFailsTheStart(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "create", "--name", "gpu", "--gpus", "all", "busybox", "true")
	r := h.Try(t, "start", "gpu")
	assert.Equal(t, r.Code, 1)
	assert.Assert(t, is.Contains(r.Stderr, `could not select device driver "" with capabilities: [[gpu]]`))
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "gpu"), "created 128")
}
