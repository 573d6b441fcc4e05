"""What docker-py, as Debian has it, must find: run by TestDockerPy, which gives it DOCKER_HOST and REGISTRY.

Each case is a function and prints one JSON line. A case that fails does not stop the others.
"""

import io
import json
import os
import socket
import sys
import tarfile
import threading
import time
import traceback

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, InvalidVersion, NotFound

IMAGE = "busybox:latest"
REGISTRY = os.environ["REGISTRY"]  # host:port, which ann with the password "secret" may use
CASES = []


def case(f):
    CASES.append(f)
    return f


def eq(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


def refused(kind, status, words, f, *args, **kwargs):
    """Wants f to raise: an error of a kind, with a status and with words in it."""
    try:
        f(*args, **kwargs)
    except kind as e:
        eq(e.response.status_code, status)
        if words not in str(e.explanation):
            raise AssertionError("%r does not say %r" % (e.explanation, words))
        return
    raise AssertionError("not refused")


def sleeper(c, name, **kwargs):
    return c.containers.run(IMAGE, ["sleep", "600"], name=name, detach=True, **kwargs)


def tar_of(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@case
def the_engine(c):
    eq(c.ping(), True)
    v = c.version()
    eq(v["Os"], "linux")
    eq(v["MinAPIVersion"], "1.24")
    info = c.info()
    eq(info["OSType"], "linux")
    eq(info["Swarm"]["LocalNodeState"], "inactive")
    eq(sorted(c.df().keys())[:3], ["BuildCache", "Containers", "Images"])


@case
def every_version(c):
    for minor in range(24, 52):
        old = docker.DockerClient(base_url=os.environ["DOCKER_HOST"], version="1.%d" % minor)
        old.ping()
        old.containers.list(all=True)
        old.images.list()
        eq(old.api.create_container(IMAGE, "true", name="v%d" % minor)["Warnings"] or [], [])
        old.containers.get("v%d" % minor).remove()
        old.close()
    try:
        old = docker.DockerClient(base_url=os.environ["DOCKER_HOST"], version="1.23")
    except InvalidVersion:
        return  # docker-py 7 refuses by itself
    refused(APIError, 400, "client version 1.23 is too old", old.ping)


@case
def run_returns_output(c):
    eq(c.containers.run(IMAGE, "echo hello", remove=True), b"hello\n")
    eq(c.containers.run(IMAGE, ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True, stdout=False), b"err\n")
    eq(c.containers.run(IMAGE, "cat", remove=True, environment={"A": "1"}, entrypoint=["sh", "-c", "echo $A"]), b"1\n")
    eq(c.containers.run(IMAGE, "pwd", remove=True, working_dir="/tmp"), b"/tmp\n")
    eq(c.containers.run(IMAGE, "id -u", remove=True, user="nobody"), b"65534\n")
    eq(c.containers.run(IMAGE, "hostname", remove=True, hostname="box"), b"box\n")


@case
def run_raises_for_an_exit_code(c):
    try:
        c.containers.run(IMAGE, ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    except ContainerError as e:
        eq((e.exit_status, e.stderr), (3, b"bad\n"))
        return
    raise AssertionError("no ContainerError")


@case
def what_is_not_there(c):
    refused(NotFound, 404, "No such container: nosuch", c.containers.get, "nosuch")
    refused(ImageNotFound, 404, "No such image: nosuch:latest", c.images.get, "nosuch")
    refused(NotFound, 404, "No such container: nosuch", c.api.start, "nosuch")
    refused(NotFound, 404, "No such exec instance: nosuch", c.api.exec_inspect, "nosuch")
    refused(NotFound, 404, "get nosuch: no such volume", c.volumes.get, "nosuch")
    refused(NotFound, 404, "network nosuch not found", c.networks.get, "nosuch")


@case
def names_conflict(c):
    first = c.containers.create(IMAGE, name="twice")
    refused(APIError, 409, 'The container name "/twice" is already in use by container "%s"' % first.id, c.containers.create, IMAGE, name="twice")
    first.remove()


@case
def a_life(c):
    events = []
    since = time.time()
    b = sleeper(c, "life", labels={"role": "test"}, stop_signal="SIGKILL")
    eq((b.name, b.status, b.labels["role"], b.image.tags), ("life", "created", "test", [IMAGE]))
    b.reload()
    eq(b.status, "running")
    b.pause()
    b.reload()
    eq(b.status, "paused")
    b.unpause()
    b.rename("lived")
    b.restart(timeout=60)  # its stop signal ends it at once; told of late, it would be killed again
    b.kill(signal="CONT")
    b.stop(timeout=60)
    eq(b.wait()["StatusCode"], 137)
    b.reload()
    eq((b.status, b.name), ("exited", "lived"))
    b.start()
    refused(APIError, 409, "container is running: stop the container before removing or force remove", b.remove)
    b.remove(force=True)
    for e in c.events(since=since, until=time.time() + 1, filters={"type": "container", "label": "role=test"}, decode=True):
        events.append(e["Action"])
    eq(events, [
        "create", "start", "pause", "unpause", "rename", "kill", "stop", "die", "start", "restart", "kill",
        "kill", "stop", "die", "start", "kill", "die", "destroy"])


@case
def options_of_run(c):
    b = sleeper(
        c, "options", mem_limit="64m", nano_cpus=500000000, pids_limit=20, cap_add=["NET_ADMIN"], dns=["192.0.2.1"],
        extra_hosts={"gw": "192.0.2.9"}, tmpfs={"/scratch": "size=1m"}, volumes={"data": {"bind": "/data", "mode": "rw"}},
        ports={"80/tcp": None, "53/udp": ("127.0.0.1", 5353)}, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)], sysctls={"net.ipv4.ip_forward": "1"},
        mounts=[docker.types.Mount("/bind", "/tmp", type="bind", read_only=True)], read_only=True, init=True, shm_size="8m",
        log_config=docker.types.LogConfig(type="json-file", config={"max-size": "1m"}))
    b.reload()
    h = b.attrs["HostConfig"]
    eq((h["Memory"], h["NanoCpus"], h["PidsLimit"], h["CapAdd"]), (64 << 20, 500000000, 20, ["NET_ADMIN"]))
    eq(h["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 2})
    eq(b.ports["53/udp"], [{"HostIp": "127.0.0.1", "HostPort": "5353"}])
    eq(int(b.ports["80/tcp"][0]["HostPort"]) > 0, True)
    eq(sorted(m["Destination"] for m in b.attrs["Mounts"]), ["/bind", "/data"])
    eq(b.exec_run("grep gw /etc/hosts").output.split(), [b"192.0.2.9", b"gw"])
    eq(b.exec_run("touch /x").exit_code, 1)
    eq(b.exec_run(["sh", "-c", "ulimit -n"]).output, b"100\n")
    eq(b.update(mem_limit="128m", memswap_limit="256m")["Warnings"] or [], [])
    b.reload()
    eq(b.attrs["HostConfig"]["Memory"], 128 << 20)
    b.remove(force=True)
    c.volumes.get("data").remove()


@case
def logs(c):
    b = c.containers.run(IMAGE, ["sh", "-c", "for i in 1 2 3; do echo $i; done"], detach=True)
    b.wait()
    eq(sorted(b.logs().split()), [b"1", b"2", b"3"])
    eq(b.logs(stderr=False, tail=1), b"3\n")
    eq(b.logs(stderr=False, since=int(time.time()) + 100), b"")
    eq(b"".join(b.logs(stream=True, follow=True, stderr=False)), b"1\n2\n3\n")
    eq(len(b.logs(timestamps=True, stderr=False).split()), 6)
    b.remove()


@case
def execs(c):
    b = sleeper(c, "execs")
    eq(tuple(b.exec_run("echo hi")), (0, b"hi\n"))
    eq(b.exec_run(["sh", "-c", "exit 4"]).exit_code, 4)
    eq(b.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True).output, (b"out\n", b"err\n"))
    eq(b.exec_run("env", environment={"A": "1"}).output.count(b"A=1"), 1)
    eq(b.exec_run("pwd", workdir="/etc", user="nobody").output, b"/etc\n")
    eq(b.exec_run("test -t 1", tty=True).exit_code, 0)
    eq(b"".join(b.exec_run(["sh", "-c", "echo a; sleep .1; echo b"], stream=True).output), b"a\nb\n")
    missing = b.exec_run("nosuch")
    eq((missing.exit_code, b"executable file not found" in missing.output), (127, True))
    e = c.api.exec_create(b.id, "cat", stdin=True)
    s = c.api.exec_start(e["Id"], socket=True)
    raw = getattr(s, "_sock", s)
    raw.sendall(b"through\n")
    raw.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        part = raw.recv(4096)
        if not part:
            break
        got += part
    eq(got, b"\x01\x00\x00\x00\x00\x00\x00\x08through\n")
    eq(c.api.exec_inspect(e["Id"])["ExitCode"], 0)
    b.remove(force=True)
    refused(NotFound, 404, "No such exec instance", c.api.exec_inspect, e["Id"])


@case
def attach(c):
    b = c.containers.create(IMAGE, "cat", stdin_open=True, name="attached")
    s = b.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    b.start()
    s._sock.sendall(b"ping\n")
    eq(s._sock.recv(4096), b"\x01\x00\x00\x00\x00\x00\x00\x05ping\n")
    s.close()
    b.remove(force=True)
    b = c.containers.run(IMAGE, "echo said", name="told", detach=True)
    b.wait()
    eq(b.attach(logs=True), b"said\n")  # read by another way than the head, with which it must not come
    b.remove()


@case
def files(c):
    b = sleeper(c, "files")
    eq(b.put_archive("/tmp", tar_of(one="1", two="2")), True)
    eq(b.exec_run("cat /tmp/one /tmp/two").output, b"12")
    stream, stat = b.get_archive("/tmp/one")
    eq((stat["name"], stat["size"]), ("one", 1))
    t = tarfile.open(fileobj=io.BytesIO(b"".join(stream)))
    eq(t.extractfile("one").read(), b"1")
    refused(NotFound, 404, "Could not find the file /nosuch in container %s" % b.id, b.get_archive, "/nosuch")
    eq([d for d in b.diff() if d["Path"] == "/tmp/one"], [{"Path": "/tmp/one", "Kind": 1}])
    t = tarfile.open(fileobj=io.BytesIO(b"".join(b.export())))
    eq("etc/passwd" in t.getnames(), True)
    b.remove(force=True)


@case
def watching(c):
    b = sleeper(c, "watched")
    eq(b.top()["Titles"][:2], ["UID", "PID"])
    s = b.stats(stream=False)
    eq((s["name"], s["pids_stats"]["current"]), ("/watched", 1))
    eq(s["precpu_stats"]["cpu_usage"]["total_usage"] > 0, True)
    eq(len([next(x) for x in [b.stats(decode=True)]]), 1)
    got = {}
    waiter = threading.Thread(target=lambda: got.update(b.wait()))
    waiter.start()
    b.kill()
    waiter.join(60)
    eq(got["StatusCode"], 137)
    b.remove()


@case
def lists(c):
    a = c.containers.create(IMAGE, name="la", labels={"k": "v"})
    b = sleeper(c, "lb", labels={"k": "w"})

    def names(**kwargs):
        return sorted(x.name for x in c.containers.list(**kwargs))

    eq(names(), ["lb"])
    eq(names(all=True), ["la", "lb"])
    eq(names(all=True, filters={"label": "k=v"}), ["la"])
    eq(names(filters={"status": "running"}), ["lb"])
    eq(names(all=True, filters={"name": "^l"}), ["la", "lb"])
    eq(names(filters={"ancestor": IMAGE}), ["lb"])
    eq(names(all=True, limit=1), ["lb"])
    eq(names(all=True, filters={"since": "la"}), ["lb"])
    eq(names(all=True, filters={"before": "lb"}), ["la"])
    eq(c.api.containers(all=True, size=True)[0]["SizeRootFs"] > 0, True)
    refused(APIError, 400, "invalid filter 'colour'", c.containers.list, filters={"colour": "red"})
    b.stop(timeout=0)
    pruned = c.containers.prune(filters={"label": "k"})
    eq(sorted(pruned["ContainersDeleted"]), sorted([a.id, b.id]))


@case
def images(c):
    i = c.images.get(IMAGE)
    eq((i.tags, i.attrs["Os"], i.id.startswith(i.short_id)), ([IMAGE], "linux", True))
    eq(i.tag("other", tag="1"), True)
    i.reload()
    eq(sorted(i.tags), [IMAGE, "other:1"])
    eq([x.id for x in c.images.list(name="other")], [i.id])
    eq(c.images.list(filters={"dangling": True}), [])
    eq(i.history()[0]["Id"], i.id)
    archive = b"".join(i.save(named="other:1"))
    c.images.remove("other:1")
    eq([x.id for x in c.images.load(archive)], [i.id])
    eq(sorted(c.images.get(i.id).tags), [IMAGE, "other:1"])
    used = c.containers.create("other:1", name="user")
    refused(APIError, 409, "image is referenced in multiple repositories", c.images.remove, i.id)
    used.remove()
    c.images.remove("other:1")
    eq(c.images.prune()["SpaceReclaimed"], 0)
    eq(c.api.import_image_from_data(tar_of(f="x"), repository="made", tag="1").startswith("{"), True)
    eq([d for d in c.api.remove_image("made:1") if "Untagged" in d], [{"Untagged": "made:1"}])


@case
def registries(c):
    refused(APIError, 500, "failed with status: 401 Unauthorized", c.login, "ann", "wrong", registry=REGISTRY)
    eq(c.login("ann", "secret", registry=REGISTRY)["Status"], "Login Succeeded")
    name = REGISTRY + "/team/app"
    c.images.get(IMAGE).tag(name, tag="1")
    lines = list(c.images.push(name, tag="1", stream=True, decode=True))
    eq(lines[0]["status"], "The push refers to repository [%s]" % name)
    eq(sorted(lines[-1]["aux"]), ["Digest", "Size", "Tag"])
    eq([x for x in lines if "error" in x], [])
    c.images.remove(name + ":1")
    pulled = c.images.pull(name, tag="1")
    eq(pulled.attrs["RepoDigests"], [name + "@" + lines[-1]["aux"]["Digest"]])
    eq([x.id for x in c.images.pull(name, all_tags=True)], [pulled.id])
    eq(c.images.get_registry_data(name + ":1").id, lines[-1]["aux"]["Digest"])
    refused(NotFound, 404, "manifest for %s:2 not found" % name, c.images.pull, name, tag="2")
    c.images.remove(name + ":1")


@case
def volumes(c):
    v = c.volumes.create("pyvol", labels={"k": "v"})
    eq((v.name, v.attrs["Driver"], v.attrs["Labels"]), ("pyvol", "local", {"k": "v"}))
    eq([x.name for x in c.volumes.list(filters={"label": "k"})], ["pyvol"])
    b = sleeper(c, "user", volumes=["pyvol:/data"])
    refused(APIError, 409, "volume is in use - [%s]" % b.id, v.remove)
    b.remove(force=True)
    v.remove()
    eq(c.volumes.prune()["VolumesDeleted"] or [], [])


@case
def networks(c):
    eq(sorted(n.name for n in c.networks.list()), ["bridge", "host", "none"])
    b = sleeper(c, "net")
    eq([x.name for x in c.networks.get("bridge").containers], ["net"])
    b.remove(force=True)
    eq(c.networks.list(names=["nosuch"]), [])


@case
def what_is_no_swarm(c):
    refused(APIError, 503, "This node is not a swarm manager", c.services.list)
    refused(APIError, 503, "This node is not a swarm manager", c.swarm.reload)
    eq(c.plugins.list(), [])


@case
def bad_input(c):
    refused(APIError, 400, "Minimum memory limit allowed is 6MB", c.containers.create, IMAGE, mem_limit=1000)
    refused(APIError, 400, "Invalid container name (a/b)", c.containers.create, IMAGE, name="a/b")
    refused(APIError, 400, "invalid restart policy", c.containers.create, IMAGE, restart_policy={"Name": "sometimes"})
    refused(APIError, 400, "invalid reference format", c.containers.create, "a b")
    b = c.containers.create(IMAGE, labels={"l%d" % n: "x" * 20 for n in range(10000)})
    eq(len(c.containers.get(b.id).labels) >= 10000, True)
    b.remove()


def main():
    wanted = sys.argv[1:]
    for f in CASES:
        if wanted and f.__name__ not in wanted:
            continue
        client, text = docker.from_env(timeout=60), ""
        try:
            f(client)
        except BaseException:
            text = traceback.format_exc()
            for b in client.containers.list(all=True):
                b.remove(force=True, v=True)
        client.close()
        print(json.dumps({"name": f.__name__, "failed": text}), flush=True)


main()
