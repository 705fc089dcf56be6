"""What rows.py measures itself, with the harness's pods and data paths: memory, ciphers, and a mesh of 100,000 workloads."""
import contextlib, json, math, os, re, select, signal, socket, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "datapath"))
import bench  # noqa: E402

CONNECTIONS, WORKLOADS, SERVICES = 10_000, 100_000, 10_000
SUITES = {0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384", 0x1303: "TLS_CHACHA20_POLY1305_SHA256"}
GROUPS = {0x001D: "X25519", 0x0017: "P-256", 0x11EC: "X25519MLKEM768"}


class Machine:
    """The harness's two pods with the app in one of them."""

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.tmp = stack.enter_context(tempfile.TemporaryDirectory(prefix="apus-rows-"))
            self.pods = stack.enter_context(bench.Pods(1500))
            os.chmod(self.tmp, 0o755)
            netbench = os.path.join(self.tmp, "netbench")
            bench.sh("gcc", "-O2", "-pthread", "-o", netbench, os.path.join(bench.HERE, "netbench.c"))
            bench.make_certs(os.path.join(self.tmp, "certs"))
            self.values = {"netbench": netbench, "certs": os.path.join(self.tmp, "certs"), "bench": bench.HERE, "root": bench.repository(),
                           "client_ip": bench.CLIENT_IP, "server_ip": bench.SERVER_IP, "client_id": bench.CLIENT_ID,
                           "server_id": bench.SERVER_ID, "client_ns": self.pods.client, "server_ns": self.pods.server, "mark": bench.MARK}
            app = bench.Proc("app", self.pods.run("server", netbench, "serve", "0.0.0.0"), os.path.join(self.tmp, "app.log"))
            stack.callback(app.stop)
            while not self.pods.listening("server", 9003): time.sleep(0.02)
            self.stack = stack.pop_all()
        self.ciphers = {}
        return self

    def __exit__(self, *_): self.stack.close()

    def path(self, name): return bench.DataPath(name, self.pods, self.values, self.tmp)

    # ---- memory ----
    def memory(self, name):
        """Private dirty memory of the larger proxy, idle; and what an idle connection adds on each side, all processes together."""
        with contextlib.ExitStack() as stack:
            # Only what the proxies say to each other: the checks that follow come with a client of their own.
            with self.tls(name): path = stack.enter_context(self.path(name))
            path.check()
            time.sleep(2)
            dirty = max(private_dirty(pid) for pid in proxies(path))
            held = bench.hold(path, CONNECTIONS)
            if held["alive"] != CONNECTIONS: raise SystemExit(f"{name}: of {CONNECTIONS} idle connections {held['alive']} were alive")
            growth = sum(v["kib_per_conn"] for v in held.values() if isinstance(v, dict)) / 2
        return {"dirty": dirty / 1024, "growth": growth}

    # ---- ciphers ----
    @contextlib.contextmanager
    def tls(self, name):
        """Notes the cipher suite and key exchange that the path's proxies agree on, as their ServerHello says it on the wire."""
        watch = subprocess.Popen(self.pods.run("switch", sys.executable, os.path.abspath(__file__), "15008"), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        watch.stdout.readline()
        try: yield
        finally: self.ciphers.setdefault(name, set()).update(json.loads(watch.communicate()[0] or "[]"))

    # ---- a large mesh ----
    def mesh(self):
        """Time and memory to take in a large mesh over xDS, and the longest stall of a worker while single workloads change."""
        with self.path("apus") as path, contextlib.ExitStack() as stack:
            path.check()
            # The log goes on from path to path.
            run = re.findall(r"; run (\w+)", open(path.procs[0].log).read())[-1]
            state, node, address = f"/run/apus/{run}/controller", f"apus-{run}-n1", "10.200.0.11"
            ztunnel = next(p for p, words in commands(path) if words[1:2] == ["ztunnel"] and namespace(p) == os.stat(f"/run/netns/{node}").st_ino)
            self.certificate(state)
            plane = subprocess.Popen(
                ["ip", "netns", "exec", f"apus-{run}-ctl", sys.executable, os.path.join(HERE, "xds_server.py"), "--listen", "10.200.0.1:15012",
                 "--certificate", f"{self.tmp}/plane.crt", "--key", f"{self.tmp}/plane.key", "--node", address,
                 "--workloads", str(WORKLOADS), "--services", str(SERVICES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(plane.wait)
            stack.callback(plane.kill)

            def ask(words=None):
                if words:
                    plane.stdin.write(words + "\n")
                    plane.stdin.flush()
                line = plane.stdout.readline()
                if not line: raise SystemExit(f"the control plane ended at: {words}")
                return json.loads(line)

            ask()
            # What the ztunnels know stays in force; the stand-in's resources come on top.
            os.kill(next(p for p, words in commands(path) if words[1:2] == ["controller"]), signal.SIGKILL)
            ask("listen")
            before, used = private_dirty(ztunnel), cpu_seconds(ztunnel)
            load = ask("load")
            used = cpu_seconds(ztunnel) - used
            time.sleep(1)
            each = (private_dirty(ztunnel) - before) / WORKLOADS
            stalls = []
            for changing in (False, True):
                longest_round(node)
                ping = subprocess.Popen(self.pods.run("client", self.values["netbench"], "rate", bench.SERVER_IP, "16", "5000", "1000"),
                                        stdout=subprocess.DEVNULL)
                if changing: ask("change 40 0.1")
                ping.wait()
                stalls.append(longest_round(node) * 1e3)
        print(f"mesh: {load['workloads']} workloads, {load['services']} services ({load['bytes'] / 1e6:.1f} MB) in {load['seconds']:.3f} s "
              f"({used:.3f} s of CPU), "
              f"{each:.2f} KiB each; longest round of the worker {stalls[0]:.3f} ms without changes, {stalls[1]:.3f} ms with", flush=True)
        return {"ingest": load["seconds"], "each": each, "stall": None if math.isnan(stalls[1]) else stalls[1]}

    def certificate(self, state):
        """A server certificate of the run's own authority, for the stand-in."""
        name = f"{self.tmp}/plane"
        with open(f"{name}.ext", "w") as f: f.write("subjectAltName=IP:10.200.0.1,DNS:istiod.istio-system.svc\nextendedKeyUsage=serverAuth\n")
        bench.sh("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                 "-out", f"{name}.csr", "-subj", "/CN=control plane")
        bench.sh("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", f"{state}/root-cert.pem", "-CAkey", f"{state}/ca.key",
                 "-set_serial", "0x" + os.urandom(15).hex(), "-days", "1", "-out", f"{name}.crt", "-extfile", f"{name}.ext")


# ---- processes ---------------------------------------------------------------------------------------------------
def commands(path):
    """The path's processes and their command lines."""
    for proc in path.procs:
        proc.refresh()
        for pid in proc.pids:
            try: yield pid, open(f"/proc/{pid}/cmdline").read().split("\0")
            except OSError: pass


def proxies(path):
    """The processes that carry the traffic: ztunnels, or whatever the path starts."""
    every = list(commands(path))
    return [p for p, words in every if words[1:2] == ["ztunnel"]] or [p for p, _ in every]


def namespace(pid): return os.stat(f"/proc/{pid}/ns/net").st_ino


def private_dirty(pid):
    """KiB."""
    return next(int(l.split()[1]) for l in open(f"/proc/{pid}/smaps_rollup") if l.startswith("Private_Dirty:"))


def cpu_seconds(pid):
    return sum(int(open(f"/proc/{pid}/task/{t}/schedstat").read().split()[0]) for t in os.listdir(f"/proc/{pid}/task")) / 1e9


def longest_round(node):
    """Seconds; asking begins a new measurement. Not a number where ztunnel does not tell."""
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:15020/metrics', timeout=5).read().decode())"
    text = bench.sh("ip", "netns", "exec", node, sys.executable, "-c", fetch)
    found = re.search(r"^apus_worker_longest_round_seconds (\S+)$", text, re.M)
    return float(found.group(1)) if found else math.nan


# ---- on the wire -------------------------------------------------------------------------------------------------
def server_hello(packet, port):
    """The suite and the key exchange that a ServerHello from `port` in this Ethernet frame chooses (RFC 8446 section 4.1.3)."""
    if len(packet) < 54 or packet[12:14] != b"\x08\0" or packet[23] != 6: return None
    tcp = 14 + (packet[14] & 15) * 4
    if struct.unpack_from("!H", packet, tcp)[0] != port: return None
    body = packet[tcp + (packet[tcp + 12] >> 4) * 4:]
    if len(body) < 50 or body[0] != 22 or body[5] != 2: return None
    at = 44 + body[43]
    suite = struct.unpack_from("!H", body, at)[0]
    text, end = SUITES.get(suite, hex(suite)), at + 5 + struct.unpack_from("!H", body, at + 3)[0]
    at += 5
    while at + 4 <= min(end, len(body)):
        kind, length = struct.unpack_from("!HH", body, at)
        if kind == 51: text += " with " + GROUPS.get(group := struct.unpack_from("!H", body, at + 4)[0], hex(group))
        at += 4 + length
    return text


def watch_hellos(port):
    """Collects what ServerHellos say until standard input is closed. A few tell; more would only keep the machine busy."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    print("ready", flush=True)
    found, left = set(), 8
    while True:
        ready = select.select([sys.stdin] + ([wire] if left else []), [], [])[0]
        if sys.stdin in ready: break
        hello = server_hello(wire.recv(1 << 16), port)
        if hello is None: continue
        found.add(hello)
        left -= 1
    print(json.dumps(sorted(found)))


if __name__ == "__main__":
    watch_hellos(int(sys.argv[1]))
