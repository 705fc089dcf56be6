"""A node for the scenes: two or three pods on one wire, `apus ztunnel` as a process in a namespace of its own, with the
node agent's end of its socket, and applications that talk through it."""

import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import netns  # noqa: E402
import zds  # noqa: E402

LIMIT = 20
USER = 65532


def expect(what, condition, detail=""):
    print(("ok   " if condition else "FAIL ") + what, detail if not condition else "", flush=True)
    if not condition:
        raise SystemExit(1)


def eventually(what, condition, seconds=LIMIT):
    deadline = time.monotonic() + seconds
    value = condition()
    while not value and time.monotonic() < deadline:
        time.sleep(0.02)
        value = condition()
    expect(what, value)
    return value


class Pod:
    """A namespace on the wire; what is sent there reaches the others."""

    def __init__(self, name, number, wire_fd):
        self.name, self.uid, self.address = name, f"uid-{name}", f"10.77.0.{number}"
        self.fd = netns.make()
        netns.command(wire_fd, "ip", "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns",
                      f"/proc/{os.getpid()}/fd/{self.fd}")
        netns.command(wire_fd, "ip", "link", "set", f"p{number}", "master", "br0", "up")
        netns.command(self.fd, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        netns.command(self.fd, "ip", "link", "set", "eth0", "up")
        netns.command(self.fd, "ip", "route", "add", "default", "dev", "eth0")

    @property
    def identity(self):
        return f"spiffe://cluster.local/ns/shop/sa/{self.name}"

    def serve(self, port):
        """An application that sends back what it gets. Tells the addresses of its callers."""
        listener = netns.inside(self.fd, lambda: socket.create_server(("0.0.0.0", port)))
        callers = []

        def echo(connection):
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

        def accept():
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                callers.append(peer[0])
                threading.Thread(target=echo, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return callers

    def connect(self, address, port):
        return netns.inside(self.fd, lambda: Call(socket.create_connection((address, port), timeout=LIMIT)))

    def talks(self, address, port):
        """Whether a new connection carries bytes there and back."""
        try:
            call = self.connect(address, port)
        except OSError:
            return False
        try:
            return call.works()
        finally:
            call.close()

    def tunnels(self):
        """Established connections to somebody's port 15008."""
        lines = netns.inside(self.fd, lambda: open("/proc/thread-self/net/tcp").readlines())[1:]
        return sum(1 for line in lines if line.split()[3] == "01" and line.split()[2].endswith(":3AA0"))


class Call:
    """A connection of an application."""

    def __init__(self, connection):
        self.connection = connection
        self.sent = 0

    def works(self):
        """Whether bytes go there and come back."""
        self.sent += 1
        word = f"{self.sent:08d}".encode()
        try:
            self.connection.sendall(word)
            got = b""
            while len(got) < len(word):
                part = self.connection.recv(len(word) - len(got))
                if not part:
                    return False
                got += part
            return got == word
        except OSError:
            return False

    def close(self):
        self.connection.close()


class Agent:
    """The node agent's end of ztunnel's socket."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        os.chmod(path, 0o777)
        self.listener.listen(4)

    def expect(self, *pods):
        """A ztunnel that comes is told of the pods. Ours comes once it knows the mesh, so nobody waits for it here."""
        threading.Thread(target=self.accept, args=pods, daemon=True).start()

    def accept(self, *pods):
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(LIMIT)
        expect("ztunnel says hello", self.peer.recv(1024) == zds.hello())
        for pod in pods:
            self.add(pod)
        expect("the snapshot is taken", self.ask(zds.snapshot_sent()) == "")

    def ask(self, message, *descriptors):
        socket.send_fds(self.peer, [message], descriptors)
        return zds.read_response(self.peer.recv(1024))

    def add(self, pod):
        expect(f"pod {pod.name} is taken", self.ask(zds.add(pod.uid, pod.name, "shop", pod.name), pod.fd) == "")


class Node:
    def __init__(self, program, folder, istiod, pods=("a", "b"), **environment):
        self.program, self.folder, self.istiod = program, folder, istiod
        self.fd = netns.make()
        self.wire = netns.make()
        netns.command(self.wire, "ip", "link", "add", "br0", "type", "bridge")
        netns.command(self.wire, "ip", "link", "set", "br0", "up")
        self.pods = [Pod(name, number + 1, self.wire) for number, name in enumerate(pods)]
        for pod in self.pods:
            netns.capture(pod.fd)
        self.write("root.pem", istiod.authority.root_pem)
        self.write("token", "token-1\n")
        self.agent = Agent(f"{folder}/zds.sock")
        self.environment = {
            "PATH": os.environ["PATH"], "INPOD_UDS": f"{folder}/zds.sock", "NODE_NAME": "n1",
            "XDS_ADDRESS": "https://127.0.0.1:15012", "ALT_XDS_HOSTNAME": "istiod.istio-system.svc",
            "CA_ADDRESS": "https://127.0.0.1:15012", "ALT_CA_HOSTNAME": "istiod.istio-system.svc",
            "XDS_ROOT_CA": f"{folder}/root.pem", "CA_ROOT_CA": f"{folder}/root.pem", "AUTH_TOKEN": f"{folder}/token",
            "POD_NAME": "ztunnel-x7", "POD_NAMESPACE": "istio-system", "INSTANCE_IP": "10.1.2.3",
            "CLUSTER_ID": "cluster-7", "IPV6_ENABLED": "false", **environment}
        for name in ["LD_LIBRARY_PATH", "SWIFT_BACKTRACE"]:
            if name in os.environ:
                self.environment[name] = os.environ[name]
        self.process = None

    def write(self, name, text):
        """Appears as a whole, as a mounted secret does."""
        with open(f"{self.folder}/.{name}", "w") as file:
            file.write(text)
        os.rename(f"{self.folder}/.{name}", f"{self.folder}/{name}")

    def __enter__(self):
        self.log = open(f"{self.folder}/ztunnel.log", "w")
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.fd}", self.program, "ztunnel", "--own-sockets", "--uid",
             str(USER)], env=self.environment, stdout=self.log, stderr=self.log)
        return self

    def __exit__(self, kind, error, trace):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        if error:
            print(self.text()[-6000:])
        if self.istiod.server:
            self.istiod.stop()

    def text(self):
        with open(f"{self.folder}/ztunnel.log") as file:
            return file.read()

    # ---- what an operator asks ----
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

    @property
    def is_ready(self):
        return self.get(15021, "/healthz/ready")[0] == 200

    def dump(self):
        return json.loads(self.get(15000, "/config_dump")[1])

    def known(self):
        """Uids, hostnames and policies that are in force."""
        dump = self.dump()
        return {
            "workloads": {w["uid"]: w for w in dump["workloads"]},
            "services": {s["hostname"]: s for s in dump["services"]},
            "policies": {p["name"]: p for p in dump["policies"]}}

    def metric(self, start):
        """The sum of the series whose line starts so."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get(15020, "/metrics")[1].splitlines()
                   if line.startswith(start))


class Relay:
    """A TCP relay in a node's namespace that stops in the middle of what the server sends."""

    def __init__(self, namespace, port, target):
        self.namespace, self.target = namespace, target
        self.budgets = []  # bytes from the server: the first connection that gets so far is cut there, and so on
        self.given = []  # those that are used up
        self.listener = netns.inside(namespace, lambda: socket.create_server(("127.0.0.1", port)))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = netns.inside(
                    self.namespace, lambda: socket.create_connection(("127.0.0.1", self.target), timeout=LIMIT))
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            threading.Thread(target=self.copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, True), daemon=True).start()

    def copy(self, source, target, counts):
        passed = 0
        try:
            while data := source.recv(16384):
                if counts and self.budgets and passed < self.budgets[0] <= passed + len(data):
                    budget = self.budgets.pop(0)
                    target.sendall(data[:budget - passed])
                    self.given.append(budget)
                    # A reset rather than an end: nothing in order.
                    for end in (source, target):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                passed += len(data)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
