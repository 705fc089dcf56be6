"""What capture costs: connections and bulk through nf_tables, through eBPF and through none, in turn within each round.

All three go through the same small relay in the client's pod (relay.c), which stands where ztunnel does: captured
connections find it by themselves, and with no capture the client asks for it. What differs is capture. The plan is the
agent's: with the seal and the second line.
"""
import contextlib, json, os, resource, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "datapath"))
import bench  # noqa: E402

MEANS = ["none", "nftables", "ebpf"]
PORTS = [str(port) for port in (9000, 9001, 9002, 9003, *range(9010, 9018))]


class Pods:
    """The harness's two pods, the app in one and the relay in the other."""

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.tmp = stack.enter_context(tempfile.TemporaryDirectory(prefix="apus-capture-"))
            self.pods = stack.enter_context(bench.Pods(1500))
            os.chmod(self.tmp, 0o755)
            self.netbench, self.relay = (os.path.join(self.tmp, name) for name in ("netbench", "relay"))
            bench.sh("gcc", "-O2", "-pthread", "-o", self.netbench, os.path.join(bench.HERE, "netbench.c"))
            bench.sh("gcc", "-O2", "-o", self.relay, os.path.join(HERE, "relay.c"))
            self.app = bench.Proc("app", self.pods.run("server", self.netbench, "serve", "0.0.0.0"), os.path.join(self.tmp, "app.log"))
            stack.callback(self.app.stop)
            while not self.pods.listening("server", 9003): time.sleep(0.02)
            self.stack = stack.pop_all()
        self.apus = os.path.join(bench.repository(), ".build", os.environ.get("BENCH_BUILD", "release"), "apus")
        return self

    def __exit__(self, *_): self.stack.close()

    @contextlib.contextmanager
    def means(self, name):
        """Captured by these means, or not; yields the address to ask for."""
        netns = f"/run/netns/{self.pods.client}"
        command = ["direct", bench.SERVER_IP, *PORTS] if name == "none" else ["captured"]
        relay = bench.Proc("relay", self.pods.run("client", self.relay, *command), os.path.join(self.tmp, "relay.log"))
        try:
            if name != "none":
                bench.sh(self.apus, "redirect", "apply", "--netns", netns, "--redirection", name, "--sealed", "--second-line")
            deadline = time.monotonic() + 10
            while not self.pods.listening("client", 9003 if name == "none" else 15001):
                if time.monotonic() > deadline: raise RuntimeError("the relay does not listen: " + open(relay.log).read())
                time.sleep(0.02)
            for process in (relay, self.app): process.refresh()
            yield "127.0.0.1" if name == "none" else bench.SERVER_IP, relay
        finally:
            relay.stop()
            bench.sh(self.apus, "redirect", "remove", "--netns", netns, check=False)

    def measure(self, name, scale):
        """Connections one after the other on each of 16, then one connection of bulk. CPU is that of client, relay and server,
        in whose names the kernel does most of capture's work."""
        milliseconds = str(int(3000 * scale))
        result = {}
        with self.means(name) as (address, relay):
            def cpu():
                client = resource.getrusage(resource.RUSAGE_CHILDREN)
                return self.app.cpu() + relay.cpu() + client.ru_utime + client.ru_stime
            for what in ("conn", "bulk"):
                before = cpu()
                out = json.loads(bench.sh(*self.pods.run("client", self.netbench, what, address, "16" if what == "conn" else "1", milliseconds)))
                spent = cpu() - before
                if what == "conn":
                    if out["errors"]: raise RuntimeError(f"{out['errors']} connections failed")
                    result |= {"conn/s": out["cps"], "us/conn": spent * 1e6 / out["connections"]}
                else:
                    result |= {"Gbit/s": out["gbps"], "s/GB": spent * 1e9 / out["bytes"]}
        return result


def run(rounds, scale):
    """{means: [{figure: value} per round]}"""
    figures = {name: [] for name in MEANS}
    with Pods() as pods:
        for number in range(rounds):
            # Nobody is always first.
            for name in MEANS[number % 3:] + MEANS[:number % 3]: figures[name].append(pods.measure(name, scale))
    return figures


if __name__ == "__main__":
    print(json.dumps(run(*(int(word) for word in sys.argv[1:2] or ["3"]), float((sys.argv[2:3] or ["1"])[0]))))
