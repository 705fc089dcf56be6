"""`apus ztunnel --own-sockets` as a process, with this program as its node agent: what istio-cni would see of it.

    python3 own_sockets.py PROGRAM FOLDER

As root. Exits with 0 when every step came out as it must; each step is printed.
"""

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import netns
import zds

USER = 65532
PORTS = [15001, 15006, 15008, 15053]
LOCAL = """
workloads:
- uid: Kubernetes//Pod/shop/a
  name: a
  namespace: shop
  serviceAccount: a
  workloadIps: ["10.0.0.1"]
  protocol: HBONE
  services: {}
"""


def expect(what, condition, detail=""):
    print(("ok   " if condition else "FAIL ") + what, detail if not condition else "", flush=True)
    if not condition:
        raise SystemExit(1)


def eventually(what, condition, seconds=20):
    deadline = time.monotonic() + seconds
    value = condition()
    while not value and time.monotonic() < deadline:
        time.sleep(0.05)
        value = condition()
    expect(what, value)
    return value


class Agent:
    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        os.chmod(path, 0o777)
        self.listener.listen(4)
        self.listener.settimeout(20)
        self.peer = None

    def accept(self):
        if self.peer:
            self.peer.close()
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(20)
        hello = self.peer.recv(1024)
        expect("hello is plain version 1", hello == zds.hello(), hello.hex())

    def ask(self, message, *descriptors):
        socket.send_fds(self.peer, [message], descriptors)
        return zds.read_response(self.peer.recv(1024))

    def ended(self):
        """Whether ztunnel ends the connection now."""
        try:
            return self.peer.recv(1024) == b""
        except ConnectionResetError:
            return True

    def add(self, pod):
        return self.ask(zds.add(pod.uid, pod.name, "shop", pod.name), pod.fd)


class Pod:
    def __init__(self, name):
        self.name = name
        self.uid = f"uid-{name}"
        self.fd = netns.make()

    @property
    def listening(self):
        return netns.listening(self.fd)


class Ztunnel:
    def __init__(self, program, folder, path):
        self.fd = netns.make()
        self.log = open(f"{folder}/ztunnel.log", "w")
        with open(f"{folder}/mesh.yaml", "w") as mesh:
            mesh.write(LOCAL)
        environment = {
            "PATH": os.environ["PATH"], "INPOD_UDS": path, "XDS_ADDRESS": "", "CA_ADDRESS": "https://127.0.0.1:1",
            "LOCAL_XDS_PATH": f"{folder}/mesh.yaml", "NODE_NAME": "n1", "ZTUNNEL_WORKER_THREADS": "2",
        }
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.fd}", program, "ztunnel", "--own-sockets", "--uid",
             str(USER)], env=environment, stdout=self.log, stderr=self.log)

    def get(self, port, path):
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()

        try:
            return netns.inside(self.fd, ask)
        except OSError:
            return 0, ""

    def get_gzip(self, port, path):
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
            reply = connection.getresponse()
            return gzip.decompress(reply.read())

        return netns.inside(self.fd, ask)

    def get_bytes(self, port, path):
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()

        return netns.inside(self.fd, ask)

    def threads(self):
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            status = open(f"/proc/{self.process.pid}/task/{thread}/status").read()
            yield dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)


def scenario(program, folder):
    path = f"{folder}/zds.sock"
    agent = Agent(path)
    ztunnel = Ztunnel(program, folder, path)
    try:
        run(agent, ztunnel)
    except BaseException:
        ztunnel.log.flush()
        print(open(f"{folder}/ztunnel.log").read()[-4000:])
        raise
    finally:
        if ztunnel.process.poll() is None:
            ztunnel.process.kill()
        ztunnel.process.wait()


def run(agent, ztunnel):
    a, b, taken = Pod("a"), Pod("b"), Pod("taken")
    agent.accept()
    expect("not ready before the snapshot", ztunnel.get(15021, "/healthz/ready")[0] == 500)
    expect("an addition is acknowledged", agent.add(a) == "")
    expect("the pod has its listeners when the answer comes", a.listening == PORTS, a.listening)
    expect("another one", agent.add(b) == "")
    expect("the end of the snapshot", agent.ask(zds.snapshot_sent()) == "")
    expect("ready with the answer to the snapshot", ztunnel.get(15021, "/healthz/ready") == (200, "ready\n"))

    wanted = 1 << 21 | 1 << 12 | 1 << 13  # SYS_ADMIN, NET_ADMIN, NET_RAW
    for status in ztunnel.threads():
        name = status["Name"]
        expect(f"thread {name} has the three capabilities", int(status["CapEff"], 16) == wanted, status["CapEff"])
        expect(f"thread {name} permits no more", int(status["CapPrm"], 16) == wanted, status["CapPrm"])
        for other in ["CapInh", "CapBnd", "CapAmb"]:
            expect(f"thread {name}: {other} is empty", int(status[other], 16) == 0, status[other])
        expect(f"thread {name} cannot gain any", status["NoNewPrivs"] == "1")
        expect(f"thread {name} is filtered", status["Seccomp"] == "2")
        expect(f"thread {name} is not root", status["Uid"].split() == [str(USER)] * 4, status["Uid"])

    dump = json.loads(ztunnel.get(15000, "/config_dump")[1])
    expect("the config dump has the pods up", {k: v["state"] for k, v in dump["workloadState"].items()}
           == {"uid-a": "Up", "uid-b": "Up"}, dump["workloadState"])
    expect("and the local mesh", [w["uid"] for w in dump["workloads"]] == ["Kubernetes//Pod/shop/a"])
    metrics = ztunnel.get(15020, "/metrics")[1]
    expect("two pods are counted", "\nworkload_manager_active_proxy_count 2\n" in metrics)
    packed = ztunnel.get_gzip(15020, "/metrics")
    expect("metrics come compressed too", b"istio_build" in packed and packed.endswith(b"# EOF\n"))

    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ztunnel.get_bytes, 15000, "/debug/pprof/profile?seconds=1&frequency=1000")
        # Something to do meanwhile.
        while not asked.done():
            ztunnel.get(15020, "/metrics")
        status, profile = asked.result()
    expect("a CPU profile can be made with the filter in force", status == 200, profile[:200])
    expect("and shows what it did, by name", b"Observability" in profile and b"nanoseconds" in profile, len(profile))

    expect("the same pod again is acknowledged", agent.add(a) == "")
    metrics = ztunnel.get(15020, "/metrics")[1]
    expect("and not started again", "\nworkload_manager_proxies_started_total 2\n" in metrics)

    blocker = netns.inside(taken.fd, lambda: socket.create_server(("0.0.0.0", 15008)))
    refusal = agent.add(taken)
    expect("a port in use is refused in words", refusal.startswith("failure to start proxy : "), refusal)
    expect("and named", "15008" in refusal, refusal)
    status, text = ztunnel.get(15021, "/healthz/ready")
    expect("a pending pod is not ready", (status, text) == (500, "not ready, pending: workload proxy manager\n"), text)
    metrics = ztunnel.get(15020, "/metrics")[1]
    expect("and counted", "\nworkload_manager_pending_proxy_count 1\n" in metrics)
    dump = json.loads(ztunnel.get(15000, "/config_dump")[1])
    expect("and dumped", dump["workloadState"]["uid-taken"]["state"] == "Pending", dump["workloadState"])
    blocker.close()
    eventually("it is tried again", lambda: taken.listening == PORTS)
    eventually("and ready then", lambda: ztunnel.get(15021, "/healthz/ready")[0] == 200)

    hostile = [
        ("an addition without a descriptor", zds.add("x", "x", "shop", "x"), []),
        ("an addition with two", zds.add("x", "x", "shop", "x"), [a.fd, b.fd]),
        ("a descriptor with a deletion", zds.delete("x"), [a.fd]),
        ("a descriptor with the end of the snapshot", zds.snapshot_sent(), [a.fd]),
        ("more than a message's length", zds.add("u" * 2000, "x", "shop", "x"), [a.fd]),
        ("bytes that are no message", b"\xff\xff\xff\xff", []),
        ("a message without content", b"\x32\x00", []),
    ]
    for what, message, descriptors in hostile:
        refusal = agent.ask(message, *descriptors)
        expect(f"{what}: refused", refusal != "", refusal)
        expect(f"{what}: connection ended", agent.ended())
        agent.accept()
        expect(f"{what}: the pods are served on", a.listening == PORTS and b.listening == PORTS)
        for pod in [a, b, taken]:
            expect("keep", agent.ask(zds.keep(pod.uid)) == "")
        expect("snapshot", agent.ask(zds.snapshot_sent()) == "")

    refusals = [
        ("no workload information", zds.add_without_info("x"), a.fd),
        ("ztunnel's own namespace", zds.add("x", "x", "shop", "x"), ztunnel.fd),
        ("a file that is no namespace", zds.add("x", "x", "shop", "x"), os.open("/dev/null", os.O_RDONLY)),
        ("a namespace of another kind", zds.add("x", "x", "shop", "x"), os.open("/proc/self/ns/uts", os.O_RDONLY)),
    ]
    for what, message, descriptor in refusals:
        refusal = agent.ask(message, descriptor)
        expect(f"{what}: refused, and the connection goes on", refusal != "", refusal)
    expect("nothing of it is pending", ztunnel.get(15021, "/healthz/ready")[0] == 200)

    agent.peer.close()
    eventually("not ready without its node agent", lambda: ztunnel.get(15021, "/healthz/ready")[0] == 500)
    expect("pods are served on without it", a.listening == PORTS)
    agent.accept()
    expect("keep before the snapshot", agent.ask(zds.keep(a.uid)) == "")
    expect("a pod that is added", agent.add(taken) == "")
    expect("and deleted before the snapshot is not in it", agent.ask(zds.delete(taken.uid)) == "")
    expect("snapshot", agent.ask(zds.snapshot_sent()) == "")
    eventually("what was not named is stopped", lambda: b.listening == [] and taken.listening == [])
    expect("what was kept is not", a.listening == PORTS)

    moved = Pod("a")
    expect("the same pod in another namespace", agent.add(moved) == "")
    eventually("moves", lambda: moved.listening == PORTS and a.listening == [])
    expect("a deletion", agent.ask(zds.delete(moved.uid)) == "")
    eventually("takes the listeners along", lambda: moved.listening == [])
    expect("a deletion of nobody is acknowledged", agent.ask(zds.delete("nobody")) == "")

    expect("a second snapshot is refused", agent.ask(zds.snapshot_sent()).startswith("protocol error"))
    expect("and ends the process as failed", ztunnel.process.wait(20) == 1, ztunnel.process.returncode)


if __name__ == "__main__":
    scenario(sys.argv[1], sys.argv[2])
