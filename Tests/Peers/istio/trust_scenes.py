"""Clocks that differ, certificates and tokens that are over: what is open stays open, nothing goes in the clear, and all is
well again once it is mended."""

import time

import grpc

import wire
from node import eventually, expect
from stream_scenes import Running, start
from wire import ADDRESS


def begin(node, istiod):
    run = Running(node, istiod)
    opening = run.opened()
    run.mesh.answer(run.stream, opening)
    eventually("ready", lambda: node.is_ready)
    return run


def skew(program, folder):
    """Certificates of workloads that are not yet, or no longer, valid."""
    node, istiod = start(program, folder)
    identities = {pod.name: pod.identity for pod in node.pods}
    istiod.start(node.fd)
    with node:
        # b's certificates are over before they come; a's live a few seconds only.
        istiod.lifetime = {identities["b"]: {"seconds": 60, "begins": -3600}, identities["a"]: {"seconds": 3600}}
        run = begin(node, istiod)
        expect("a certificate that is over opens nothing", not run.a.talks(run.b.address, 8080))
        expect("and nothing went there in the clear", node.metric(
            'istio_tcp_connections_opened_total{reporter="destination"') == 0)
        istiod.lifetime[identities["b"]] = {"seconds": 3600, "begins": 1800}
        calls = len(istiod.calls)
        eventually("it is asked for again", lambda: len(istiod.calls) > calls)
        expect("nor does one that is not yet valid", not run.a.talks(run.b.address, 8080))
        expect("the log says so", eventually("in words", lambda: "compare this machine's clock" in node.text()))
        # A clock that is a little ahead of ours is nothing: istiod's begin two minutes ago.
        istiod.lifetime[identities["b"]] = {"seconds": 4, "begins": -1}
        eventually("a good one opens", lambda: run.a.talks(run.b.address, 8080))
        run.open = run.a.connect(run.b.address, 8080)
        expect("a connection is open", run.open.works())
        # From now on only certificates that are over: what is open outlives them.
        istiod.lifetime[identities["b"]] = {"seconds": 60, "begins": -3600}
        over = time.monotonic() + 5
        while time.monotonic() < over:
            expect("the open connection outlives its certificate", run.open.works())
            time.sleep(0.2)
        istiod.lifetime[identities["b"]] = {"seconds": 3600}
        eventually("and new ones open once there is a good one again",
                   lambda: run.a.talks(run.b.address, 8080))
        run.still("at the end")


def server(program, folder):
    """The control plane's own certificate is over, or not yet valid, or of a root that is replaced."""
    node, istiod = start(program, folder)
    istiod.start(node.fd)
    with node:
        run = begin(node, istiod)
        run.open = run.a.connect(run.b.address, 8080)
        failed = 'istio_xds_connection_terminations_total{reason="ConnectionError"}'
        for what, times in [("over", {"seconds": 60, "begins": -3600}), ("not yet valid", {"begins": 3600})]:
            istiod.present("istiod.istio-system.svc", **times)
            before = node.metric(failed)
            eventually(f"a server's certificate that is {what} is refused", lambda: node.metric(failed) >= before + 2)
            expect("nothing was said to it", istiod.streams.empty())
            run.still(f"while the server's certificate is {what}")
            run.mesh.put(wire.pod(f"p{times['begins'] + 3600}", "10.77.0.80"), version="3")
            istiod.present("istiod.istio-system.svc")
            run.converge("with a good one")

        # Another root: the bundle carries both before the server changes over.
        old = node.istiod.authority
        run.stream.cut()
        run.converge("before the root is replaced")
        istiod.stop()
        from istiod import Istiod
        other = Istiod()
        other.start(node.fd)
        node.istiod = run.istiod = other
        before = node.metric(failed)
        eventually("a root that is not in the bundle is refused", lambda: node.metric(failed) >= before + 2)
        run.still("while the root is unknown")
        node.write("root.pem", old.root_pem + other.authority.root_pem)
        run.converge("with both roots in the bundle")


def token(program, folder):
    """The token is over, and the file has a new one a little later."""
    node, istiod = start(program, folder)
    istiod.start(node.fd)
    with node:
        istiod.tokens = {"token-1"}
        run = begin(node, istiod)
        run.open = run.a.connect(run.b.address, 8080)
        expect("a connection is open", run.open.works())
        istiod.tokens = {"token-2"}
        refused = 'istio_xds_connection_terminations_total{reason="Error"}'
        before = node.metric(refused)
        run.stream.cut()
        eventually("an expired token is refused", lambda: node.metric(refused) >= before + 3)
        expect("the reason is in the log, the token is not", "token expired" in node.text()
               and "token-1" not in node.text())
        run.still("with an expired token")
        node.write("token", "")
        eventually("an empty file is told of", lambda: "is empty" in node.text())
        run.still("without a token")
        run.mesh.put(wire.pod("t", "10.77.0.90"), version="4")
        node.write("token", "token-2\n")
        run.converge("with the new token")
        expect("the new token is in no log", "token-2" not in node.text())
        istiod.refuse = (grpc.StatusCode.UNAVAILABLE, "not now")
        run.stream.cut()
        eventually("a server that cannot is asked again", lambda: node.metric("istio_xds_connection_terminations_total")
                   >= before + 8)
        run.still("meanwhile")
        istiod.refuse = None
        run.converge("when it can")
        expect("the stream stands", not run.stream.deliver(ADDRESS).HasField("error_detail"))


SCENES = {"skew": skew, "server": server, "token": token}
