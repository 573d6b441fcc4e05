package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/runtime"
)

// What options do is seen from inside the container.
func TestSeenFromInside(t *testing.T) {
	g := newRig(t)
	host := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(host, "file"), []byte("of the host\n"), 0o644))
	readOnly := "touch /x 2>&1 | grep -o 'Read-only file system'; touch /tmp/x /dev/shm/x && echo writable"
	for _, c := range []struct {
		name, script, want string
		with               func(*runtime.Spec)
	}{
		{"environment", "echo $A $PATH $HOME $HOSTNAME", "1 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root web\n", func(s *runtime.Spec) {
			s.Config.Env, s.Hostname = []string{"A=1"}, "web"
		}},
		{"user", "id; echo $HOME", "uid=1000(ann) gid=1001(ann) groups=29(audio),50(staff),1001(ann)\n/home/ann\n", func(s *runtime.Spec) {
			s.Config.User, s.HostConfig.GroupAdd = "ann", []string{"audio"}
		}},
		{"root's groups", "id", "uid=0(root) gid=0(root) groups=0(root),10(wheel)\n", nil},
		{"working directory is made", "pwd; stat -c %a .", "/deep/er\n755\n", func(s *runtime.Spec) { s.Config.WorkingDir = "/deep/er" }},
		{"hostname", "hostname", "web\n", func(s *runtime.Spec) { s.Hostname = "web" }},
		{"capabilities", "grep CapEff /proc/self/status", "CapEff:\t00000000a80425fb\n", nil},
		{"no capabilities", "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n", func(s *runtime.Spec) { s.HostConfig.CapDrop = []string{"ALL"} }},
		{"seccomp", "grep Seccomp: /proc/self/status", "Seccomp:\t2\n", nil},
		{"no seccomp", "grep Seccomp: /proc/self/status", "Seccomp:\t0\n", func(s *runtime.Spec) { s.HostConfig.SecurityOpt = []string{"seccomp=unconfined"} }},
		{"no new privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n", func(s *runtime.Spec) { s.HostConfig.SecurityOpt = []string{"no-new-privileges"} }},
		{"read-only", readOnly, "Read-only file system\nwritable\n", func(s *runtime.Spec) {
			s.HostConfig.ReadonlyRootfs = true
			s.HostConfig.Tmpfs = map[string]string{"/tmp": ""}
		}},
		{"masked", "cat /proc/interrupts | wc -c", "0\n", nil},
		{"write-protected", "echo 1 > /proc/sys/kernel/domainname", "", nil},
		{"privileged writes", "[ -w /proc/sys/kernel/domainname ] && echo yes", "yes\n", func(s *runtime.Spec) { s.HostConfig.Privileged = true }},
		{"shared memory", "grep ' /dev/shm ' /proc/mounts | grep -o 'size=[0-9]*k'", "size=2048k\n", func(s *runtime.Spec) { s.HostConfig.ShmSize = 2 << 20 }},
		{"limits", "ulimit -n", "77\n", func(s *runtime.Spec) {
			s.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 77, Hard: 77}}
		}},
		{"sysctl", "cat /proc/sys/kernel/shmmni", "33\n", func(s *runtime.Spec) { s.HostConfig.Sysctls = map[string]string{"kernel.shmmni": "33"} }},
		{"domain name", "cat /proc/sys/kernel/domainname", "example.com\n", func(s *runtime.Spec) { s.Config.Domainname = "example.com" }},
		{"oom score", "cat /proc/self/oom_score_adj", "321\n", func(s *runtime.Spec) { s.HostConfig.OomScoreAdj = 321 }},
		{"bind", "cat /host/file; touch /host/new && echo written", "of the host\nwritten\n", bindDir(host)},
		{"read-only bind", "touch /host/x 2>&1 | grep -o 'Read-only file system'", "Read-only file system\n", func(s *runtime.Spec) {
			bindDir(host)(s)
			s.Mounts[0].ReadOnly = true
		}},
		{"tmpfs", "grep ' /scratch ' /proc/mounts | grep -o 'size=[0-9]*k'", "size=64k\n", func(s *runtime.Spec) {
			s.HostConfig.Tmpfs = map[string]string{"/scratch": "size=64k"}
		}},
		{"own processes only", "echo $$", "1\n", nil},
		{"the host's processes", "[ $$ -gt 1 ] && echo many", "many\n", func(s *runtime.Spec) { s.HostConfig.PidMode = "host" }},
		{"device", "[ -c /dev/ours ] && head -c 3 /dev/ours | wc -c", "3\n", func(s *runtime.Spec) {
			s.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/zero", PathInContainer: "/dev/ours", CgroupPermissions: "r"}}
		}},
		{"init", "readlink /proc/1/exe", "/sbin/docker-init\n", func(s *runtime.Spec) {
			on := true
			s.HostConfig.Init = &on
		}},
		{"terminal", "tty; stty size", "/dev/pts/0\r\n33 44\r\n", func(s *runtime.Spec) {
			s.Config.Tty, s.HostConfig.ConsoleSize = true, [2]uint{33, 44}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.with == nil {
				c.with = func(*runtime.Spec) {}
			}
			g := *g
			g.t = t
			out, exit := g.output(c.script+"; true", c.with)
			if c.name == "write-protected" {
				assert.Assert(t, strings.Contains(out, "Read-only file system"), out)
				return
			}
			assert.Equal(t, out, c.want)
			assert.Equal(t, exit.Code, 0)
		})
	}
}

// Containers that share an IPC namespace share its memory too.
func TestJoinedIPC(t *testing.T) {
	g := newRig(t)
	donor := g.spec("echo shared > /dev/shm/note; sleep 100", func(s *runtime.Spec) { s.HostConfig.IpcMode = "shareable" })
	key := g.run(donor)
	tasks, err := g.rt.Tasks(g.ctx)
	assert.NilError(t, err)
	join := func(pid int) func(*runtime.Spec) {
		return func(s *runtime.Spec) {
			s.HostConfig.IpcMode = container.IpcMode("container:" + string(key.ID))
			s.HostConfig.PidMode = container.PidMode("container:" + string(key.ID))
			s.JoinIPC, s.JoinPID = pid, pid
		}
	}
	out, exit := g.output("while [ ! -e /dev/shm/note ]; do sleep 0.01; done; cat /dev/shm/note; ps | grep -q '[s]leep 100' && echo seen", join(tasks[key].Pid))
	assert.Equal(t, out, "shared\nseen\n", fmt.Sprint(exit))

	private := g.run(g.spec("sleep 100"))
	tasks, err = g.rt.Tasks(g.ctx)
	assert.NilError(t, err)
	s := g.spec("true", func(s *runtime.Spec) {
		s.HostConfig.IpcMode, s.JoinIPC = container.IpcMode("container:"+string(private.ID)), tasks[private].Pid
	})
	assert.NilError(t, g.rt.Prepare(g.ctx, s))
	_, err = g.rt.CreateTask(g.ctx, s)
	assert.ErrorContains(t, err, "non-shareable IPC")
	assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
}
