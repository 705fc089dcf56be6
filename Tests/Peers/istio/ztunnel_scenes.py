"""`apus ztunnel` with an istiod written apart from it, as processes: what each sees of the other, and bytes of
applications through the tunnels that come of it.

    python ztunnel_scenes.py PROGRAM FOLDER SCENE

As root. Exits with 0 when every step of the scene came out as it must; each step is printed.
"""

import sys
import threading
from contextlib import contextmanager

import stream_scenes
import trust_scenes
import wire
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from istiod import Istiod
from node import Node, eventually, expect
from wire import ADDRESS, AUTHORIZATION

HOST = "web.shop.svc.cluster.local"


def names(request):
    """A request less what differs from stream to stream."""
    return (list(request.resource_names_subscribe), list(request.resource_names_unsubscribe),
            dict(request.initial_resource_versions), request.response_nonce, request.HasField("error_detail"))


def seam(program, folder):
    """Sections 5 and 6 of the reference from the server's side, once through."""
    istiod = Istiod(names=["somebody.else.svc"])
    node = Node(program, folder, istiod, ISTIO_META_FLAVOUR="plain", ISTIO_METAJSON_LABELS='{"app": "ztunnel"}',
                **{"XDS_HEADER_x-tenant": "t1", "CA_HEADER_x-signer": "s1"})
    istiod.start(node.fd)
    with node:
        a, b = node.pods
        callers = b.serve(8080)
        b.serve(9090)
        node.agent.expect(a, b)

        # 5.1: the server's name, the caller's token and names.
        eventually("a server of another name is not spoken to", lambda: node.metric(
            'istio_xds_connection_terminations_total{reason="ConnectionError"}') >= 2)
        expect("nothing was said to it", istiod.streams.empty() and not istiod.calls)
        istiod.present("istiod.istio-system.svc")
        stream = istiod.stream()
        for key, value in {"authorization": "Bearer token-1", "clusterid": "cluster-7", "x-tenant": "t1"}.items():
            expect(f"header {key}", stream.metadata.get(key) == value, stream.metadata)
        expect("headers of the certificate service stay there", "x-signer" not in stream.metadata, stream.metadata)
        opening = stream.opening()
        expect("both types are asked for, once", set(opening) == {ADDRESS, AUTHORIZATION}, opening)
        for request in opening.values():
            expect("a wildcard subscription, with nothing retained", names(request) == ([], [], {}, "", False), request)
            metadata = request.node.metadata
            expect("the node's id", request.node.id
                   == "ztunnel~10.1.2.3~ztunnel-x7.istio-system~istio-system.svc.cluster.local", request.node.id)
            expect("the node's metadata", {k: metadata[k] for k in metadata if k != "LABELS"} == {
                "NAME": "ztunnel-x7", "NAMESPACE": "istio-system", "INSTANCE_IPS": "10.1.2.3", "NODE_NAME": "n1",
                "FLAVOUR": "plain"}, metadata)
            expect("metadata of JSON keeps its shape", metadata["LABELS"]["app"] == "ztunnel", metadata)

        # 5.2, 5.3: answers, readiness.
        expect("not ready without an answer", not node.is_ready)
        answer = stream.deliver(AUTHORIZATION, [wire.resource(wire.policy("deny-9090", ports=[9090]))])
        expect("policies are acknowledged", not answer.HasField("error_detail"), answer)
        expect("an answer says nothing else", names(answer)[:3] == ([], [], {}) and not answer.HasField("node"), answer)
        expect("not ready with one type alone", not node.is_ready)
        web = wire.service("web", "10.96.0.1", [(80, 8080)])
        pods = [wire.pod("a", a.address), wire.pod("b", b.address, services=[(HOST, [(80, 8080)])])]
        answer = stream.deliver(ADDRESS, [wire.resource(value) for value in [*pods, web]])
        expect("workloads are acknowledged", not answer.HasField("error_detail"), answer)
        eventually("ready then", lambda: node.is_ready)

        # 6.1, 6.2: a certificate for each pod of the node, asked for in the pod's name.
        eventually("certificates are asked for ahead", lambda: len(istiod.calls) >= 2)
        for metadata, request in istiod.calls:
            for key, value in {"authorization": "Bearer token-1", "clusterid": "cluster-7", "x-signer": "s1"}.items():
                expect(f"header {key} of a certificate's call", metadata.get(key) == value, metadata)
            expect("headers of discovery stay there", "x-tenant" not in metadata, metadata)
            expect("a day is asked for", request.validity_duration == 86400, request.validity_duration)
            identity = request.metadata["ImpersonatedIdentity"]
            expect("in the name of a pod, and of nothing else", identity in (a.identity, b.identity)
                   and list(request.metadata) == ["ImpersonatedIdentity"], request.metadata)
            csr = x509.load_pem_x509_csr(request.csr.encode())
            expect("a key of P-256", isinstance(csr.public_key().curve, ec.SECP256R1))
            expect("an empty subject", len(csr.subject) == 0, csr.subject)
            san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            expect("one name, its identity", [n.value for n in san.value] == [identity] and san.critical, san)
        expect("each once", sorted(r.metadata["ImpersonatedIdentity"] for _, r in istiod.calls)
               == [a.identity, b.identity])

        # Bytes on those certificates.
        for what, address, port in [("the pod", b.address, 8080), ("the service", "10.96.0.1", 80)]:
            call = a.connect(address, port)
            expect(f"bytes to {what} come back", call.works())
            expect("through a tunnel", a.tunnels() >= 1)
            expect("and the application sees who calls", callers[-1] == a.address, callers)
            call.close()
        opened = 'istio_tcp_connections_opened_total{reporter="destination"'
        lines = [line for line in node.get(15020, "/metrics")[1].splitlines() if line.startswith(opened)]
        expect("all of it was mutual TLS between those identities", lines and all(
            'connection_security_policy="mutual_tls"' in line and f'source_principal="{a.identity}"' in line
            and f'destination_principal="{b.identity}"' in line for line in lines), lines)
        expect("a denied port is refused", not a.talks(b.address, 9090))

        # 5.3: partial refusal. Good ones count, bad ones are named and not retained.
        bad = wire.pod("bad", "10.77.0.9", tunnel_protocol=wire.workload.LEGACY_ISTIO_MTLS)
        good = wire.pod("good", "10.77.0.8")
        answer = stream.deliver(ADDRESS, [wire.resource(bad, "2"), wire.resource(good, "2")])
        expect("a refusal names the resource and why", answer.error_detail.message.startswith(f"{bad.uid}: "), answer)
        known = node.known()["workloads"]
        expect("what was right counts", good.uid in known and bad.uid not in known, known.keys())
        answer = stream.deliver("type.googleapis.com/some.Other", [], nonce="other")
        expect("an unknown type is acknowledged", not answer.HasField("error_detail"), answer)
        expect("removals", not stream.deliver(ADDRESS, [], [pods[0].uid + "-none", f"shop/{HOST}"]).HasField(
            "error_detail"))
        expect("are in force once they are acknowledged", HOST not in node.known()["services"])
        expect("a removed policy too", not stream.deliver(AUTHORIZATION, [], ["shop/deny-9090"]).HasField(
            "error_detail") and a.talks(b.address, 9090))

        # The next stream tells what is retained, with the token as it is by then.
        node.write("token", "token-2\n")
        stream.cut()
        stream = istiod.stream()
        expect("the token is read again", stream.metadata.get("authorization") == "Bearer token-2", stream.metadata)
        opening = stream.opening()
        expect("what is retained of addresses", dict(opening[ADDRESS].initial_resource_versions)
               == {pods[0].uid: "1", pods[1].uid: "1", good.uid: "2"}, opening)
        expect("and of policies", dict(opening[AUTHORIZATION].initial_resource_versions) == {}, opening)
        expect("it stayed ready", node.is_ready)
        for kind in (AUTHORIZATION, ADDRESS):
            expect("an empty answer is acknowledged", not stream.deliver(kind).HasField("error_detail"))
        expect("bytes as before", a.talks(b.address, 8080))


def on_demand(program, folder):
    """5.2 with XDS_ON_DEMAND: names are asked for when a connection needs them, also over the end of a stream."""
    istiod = Istiod()
    node = Node(program, folder, istiod, XDS_ON_DEMAND="true", ISTIO_META_DNS_CAPTURE="false")
    istiod.start(node.fd)
    with node:
        a, b = node.pods
        b.serve(8080)
        node.agent.expect(a, b)
        stream = istiod.stream()
        opening = stream.opening()
        expect("policies are asked for as a whole", names(opening[AUTHORIZATION])[:2] == ([], []), opening)
        expect("of addresses nothing yet", names(opening[ADDRESS])[:2] == (["*"], ["*"]), opening)
        stream.deliver(AUTHORIZATION)
        # What runs on the node comes unasked.
        stream.deliver(ADDRESS, [wire.resource(wire.pod("a", a.address))])
        eventually("ready", lambda: node.is_ready)

        with waiting(a, b.address, 8080) as outcome:
            request = stream.next()
            expect("a connection's destination is asked for", list(request.resource_names_subscribe)
                   == [f"/{b.address}"], request)
            expect("by nothing but its name", not request.resource_names_unsubscribe and not request.response_nonce)
            stream.cut()
            stream = istiod.stream()
            opening = stream.opening()
            expect("asked for again on the next stream", list(opening[ADDRESS].resource_names_subscribe)
                   == ["*", f"/{b.address}"], opening)
            stream.deliver(AUTHORIZATION)
            expect("the connection waits meanwhile", not outcome)
            stream.deliver(ADDRESS, [wire.resource(wire.pod("b", b.address))])
        expect("and goes on with the answer", outcome == [True], outcome)
        expect("through a tunnel", a.tunnels() == 1)
        expect("what is known is not asked for again", a.talks(b.address, 8080) and stream.requests.empty())

        with waiting(a, "10.77.0.99", 8080) as outcome:
            expect("another one", list(stream.next().resource_names_subscribe) == ["/10.77.0.99"])
            stream.deliver(ADDRESS, [], ["/10.77.0.99"])
        expect("what is nothing of the mesh is passed through, to nobody here", outcome == [False], outcome)


@contextmanager
def waiting(pod, address, port):
    """A connection on another thread: whether it came to work, once it has."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(pod.talks(address, port)))
    thread.start()
    yield outcome
    thread.join(20)


SCENES = {"seam": seam, "on-demand": on_demand, **stream_scenes.SCENES, **trust_scenes.SCENES}

if __name__ == "__main__":
    SCENES[sys.argv[3]](sys.argv[1], sys.argv[2])
