"""Network namespaces from Python, and a pod's rules as Istio's in-pod script sets them (ztunnel's
scripts/ztunnel-redirect-inpod.sh, said in nft)."""

import ctypes
import os
import subprocess
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def check(result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def inside(fd, body):
    """Runs `body` in a namespace, on a thread of its own that never comes back from there."""
    outcome = []

    def run():
        try:
            check(LIBC.setns(fd, CLONE_NEWNET))
            outcome.append((body(), None))
        except BaseException as error:  # handed to the caller
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error:
        raise error
    return value


def make():
    """A new namespace without a name, its lo up: its descriptor."""
    made = []

    def run():
        check(LIBC.unshare(CLONE_NEWNET))
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    command(made[0], "ip", "link", "set", "lo", "up")
    return made[0]


def command(fd, *words, text=None):
    """Runs a program in a namespace and returns what it printed."""
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{os.getpid()}/fd/{fd}", *words], input=text, text=True, capture_output=True,
        timeout=20)
    if done.returncode != 0:
        raise RuntimeError(f"{words}: {done.stderr.strip()}")
    return done.stdout


RULES = """
table ip istio_inpod {
  chain mangle_prerouting {
    type filter hook prerouting priority mangle;
    meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
  }
  chain mangle_output {
    type route hook output priority mangle;
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }
  chain nat_prerouting {
    type nat hook prerouting priority dstnat;
    ip saddr 169.254.7.127 ip protocol tcp accept
    ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006
  }
  chain nat_output {
    type nat hook output priority -100;
    ip daddr 169.254.7.127 ip protocol tcp accept
    ct mark & 0xfff == 0x111 accept
    oifname "lo" ip daddr != 127.0.0.1 accept
    ip protocol tcp ip daddr != 127.0.0.1 meta mark & 0xfff != 0x539 redirect to :15001
  }
}
"""


def capture(fd):
    """What istio-cni sets up in a pod before it tells ztunnel."""
    def loose():
        # Replies to a foreign address come in over lo; most systems' pods have it so already.
        for name in ["all", "default", "lo"]:
            with open(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", "w") as setting:
                setting.write("0")

    inside(fd, loose)
    command(fd, "nft", "-f", "-", text=RULES)
    command(fd, "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100")
    command(fd, "ip", "rule", "add", "fwmark", "0x111/0xfff", "pref", "32764", "lookup", "100")


def listening(fd):
    """The TCP ports listened on in a namespace."""
    ports = set()
    for table in ["tcp", "tcp6"]:
        for line in inside(fd, lambda: open(f"/proc/thread-self/net/{table}").readlines())[1:]:
            columns = line.split()
            if columns[3] == "0A":
                ports.add(int(columns[1].rsplit(":", 1)[1], 16))
    return sorted(ports)
