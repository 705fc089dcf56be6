#!/usr/bin/env python3
"""The controller at scale: a made-up cluster in one process, ztunnels that connect to it over TLS in another.

    scale.py [--pods 100000] [--services 10000] [--ztunnels 5000] [--program PATH]

Prints a line for each step and a last one of JSON. No root, no network but loopback. The ztunnels are simulated: each has a
TLS connection of its own with one stream on it, as a node's has, and acknowledges what comes, but keeps nothing of it.
Both processes share the machine's processors, so what is said of time holds for both together.
"""
import argparse, json, os, resource, select, subprocess, sys, tempfile

ROOT = os.environ.get("BENCH_ROOT", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIB = 1 << 20


class Program:
    """A process that answers lines with lines of JSON."""

    def __init__(self, *words):
        self.words = words
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line=None, limit=600):
        """The answer to a line, or what is said at the start; not later than so many seconds."""
        if line:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        # One line answers one, so there is never a second in the buffer.
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        if not ready: raise RuntimeError(f"{self.words[1]} has not answered within {limit} s: {line or 'its start'}")
        answer = self.process.stdout.readline()
        if not answer: raise RuntimeError(f"{self.words[1]} ended at: {line or 'its start'}")
        return json.loads(answer)

    def cpu(self):
        """Seconds of processor time."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self): return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def controller(program, pods, services, folder):
    server = Program(program, "controller", str(pods), str(services), folder)
    try: return server, server.ask()
    except BaseException:
        server.__exit__()
        raise


def ztunnels(program, at, count): return Program(program, "subscribers", at["address"], at["root"], at["token"], str(count))


def connections(at):
    """TCP connections that are established with the controller, as the kernel counts them."""
    port = ":%04X" % int(at["address"].rsplit(":", 1)[1])
    return sum(1 for line in open("/proc/net/tcp") if line.split()[1].endswith(port) and line.split()[3] == "01")


def whole(program, pods, services):
    """A large cluster: memory, the first full push, what a change costs, changes to a hundred."""
    with tempfile.TemporaryDirectory(prefix="apus-scale-") as folder:
        server, at = controller(program, pods, services, folder)
        with server:
            with ztunnels(program, at, 1) as one:
                first = one.ask()
                alone = server.ask("change 200 0")
                service = server.ask("services 20")
                memory = server.ask("memory")
            print(f"scale: {pods} pods and {services} services published in {at['publish_seconds']:.2f} s, all of it "
                  f"({first['bytes'] / 1e6:.1f} MB) at the first ztunnel {first['all_seconds']:.2f} s later; "
                  f"{memory['bytes'] / MIB:.0f} MiB, {at['objects_bytes'] / MIB:.0f} of them objects; "
                  f"{alone['cpu_per_change_ms']:.2f} ms of CPU a pod's change, {service['cpu_per_change_ms']:.1f} a service's", flush=True)
            with ztunnels(program, at, 100) as hundred:
                begun = hundred.ask()
                hundred_memory = server.ask("memory")
                # Each keeps the buffer of its first response, 64 MiB, until the next one comes. That all hundred are in one
                # process, which gives them back within a second, is no node's trouble: that second is said, and not counted.
                server.ask("change 1000 1000")
                settling = hundred.ask("report")
                used = hundred.cpu()
                changes = server.ask(f"change {min(10_000, pods)} 1000")
                used = hundred.cpu() - used
                latency = hundred.ask("report")
            lost = 100 * changes["changes"] - latency["changes"]
            print(f"scale: {begun['subscribers']} ztunnels have all of it after {begun['all_seconds']:.2f} s ({hundred_memory['bytes'] / MIB:.0f} MiB); "
                  f"{changes['rate']:.0f} changes a second reach them in p50 {latency['p50_ms']:.1f}, p99 {latency['p99_ms']:.1f}, "
                  f"at most {latency['longest_ms']:.1f} ms (p99 {settling['p99_ms']:.1f} in the second before, in which they give back "
                  f"what their first response took); {changes['cpu_per_change_ms']:.2f} ms of CPU a change here, "
                  f"{used / changes['changes'] * 1000:.2f} there, {latency['responses'] / changes['seconds']:.0f} messages a second; "
                  f"{lost} not seen", flush=True)
            if lost > 0: raise RuntimeError(f"{lost} changes did not come")
    return {"controller memory": memory["bytes"] / MIB, "first push": at["publish_seconds"] + first["all_seconds"],
            "change cpu": alone["cpu_per_change_ms"], "service cpu": service["cpu_per_change_ms"],
            "busy cpu": changes["cpu_per_change_ms"], "change p50": latency["p50_ms"], "change p99": latency["p99_ms"], "rate": changes["rate"]}


def many(program, count, pods=2_000, services=200):
    """Many ztunnels at once, and a small mesh: of the large one each would be sent 50 MB."""
    with tempfile.TemporaryDirectory(prefix="apus-scale-") as folder:
        server, at = controller(program, pods, services, folder)
        with server:
            before = server.ask("memory")
            with ztunnels(program, at, count) as all_of_them:
                begun = all_of_them.ask()
                after = server.ask("memory")
                open_now = connections(at)
                if after["clients"] != count or open_now != count: raise RuntimeError(f"{after['clients']} streams on {open_now} connections, not {count}")
                # Each before the next.
                changes = server.ask("change 10 0")
                latency = all_of_them.ask("report")
            each = (after["bytes"] - before["bytes"]) / count / 1024
            print(f"scale: {count} ztunnels on {open_now} connections have {pods} pods and {services} services "
                  f"({begun['bytes'] / 1e9:.1f} GB in all) after {begun['all_seconds']:.1f} s; {each:.0f} KiB each in the controller; "
                  f"a change reaches them in p50 {latency['p50_ms']:.0f}, p99 {latency['p99_ms']:.0f} ms; "
                  f"{changes['cpu_per_change_ms']:.0f} ms of CPU for it", flush=True)
            if latency["changes"] != count * changes["changes"]: raise RuntimeError(f"{count * changes['changes'] - latency['changes']} changes did not come")
    return {"many seconds": begun["all_seconds"], "many each": each, "many p99": latency["p99_ms"]}


def measure(program=None, pods=100_000, services=10_000, count=5_000):
    program = program or os.path.join(ROOT, ".build", "release", "apus-bench")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < count + 200: raise RuntimeError(f"{hard} descriptors a process are not enough for {count} connections")
    return {**whole(program, pods, services), **many(program, count)}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--pods", type=int, default=100_000)
    a.add_argument("--services", type=int, default=10_000)
    a.add_argument("--ztunnels", type=int, default=5_000)
    a.add_argument("--program", help="apus-bench; else the release build's")
    o = a.parse_args()
    try: print(json.dumps(measure(o.program, o.pods, o.services, o.ztunnels)))
    except RuntimeError as e: sys.exit(f"scale: {e}")


if __name__ == "__main__":
    main()
