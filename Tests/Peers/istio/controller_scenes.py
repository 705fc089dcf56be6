"""`apus controller` serving Istio's ztunnel: what such a one would ask, answer, retain and do, against the real program.

    python controller_scenes.py PROGRAM FOLDER SCENE

Exits with 0 when every step of the scene came out as it must; each step is printed.
"""

import socket
import sys
import threading

import grpc
import wire
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from google.protobuf.unknown_fields import UnknownFieldSet
from node import eventually, expect
from plane import Plane, report
from rust_ztunnel import RustZtunnel, StreamOver
from wire import ADDRESS, AUTHORIZATION

WEB1, WEB2, WEB = "Kubernetes//Pod/shop/web-1", "Kubernetes//Pod/shop/web-2", "shop/web.shop.svc.cluster.local"
STRICT, GUESTS = "istio-system/istio_converted_static_strict", "shop/guests"


def same(what, found, wanted):
    expect(what, found == wanted, f"\nfound:\n{found}\nwanted:\n{wanted}")


def resources(program, folder):
    """Every resource field by field, as the tables and the rules R1 to R51 have them."""
    w, s = wire.workload, wire.security
    with Plane(program, folder) as plane:
        ztunnel = RustZtunnel(plane.listen, plane.root, plane.token())
        ztunnel.open()
        first = ztunnel.synchronize()
        same("names of addresses", sorted(ztunnel.versions[ADDRESS]), sorted([WEB1, WEB2, WEB]))
        same("names of policies", sorted(ztunnel.versions[AUTHORIZATION]), sorted([STRICT, GUESTS]))
        same("aliases", ztunnel.aliases, {
            WEB1: ["net1/10.0.0.1", "net1/fd00::1"], WEB2: ["net1/10.0.0.2"],
            WEB: ["net1/10.96.0.1", "net1/fd00:96::1"], STRICT: [], GUESTS: []})
        for response in first.values():
            expect("a nonce, a version, nothing removed", response.nonce and response.system_version_info
                   and not response.removed_resources, response)
            expect("every resource has a version", all(one.version for one in response.resources))

        ports = [w.Port(service_port=80, target_port=8080), w.Port(service_port=443, target_port=8443)]
        web1 = w.Workload(
            uid=WEB1, name="web-1", namespace="shop", addresses=[wire.packed("10.0.0.1"), wire.packed("fd00::1")],
            network="net1", tunnel_protocol=w.HBONE, service_account="web", node="n1", canonical_name="web",
            canonical_revision="v2", workload_type=w.POD, workload_name="web-1", cluster_id="Kubernetes",
            authorization_policies=[STRICT, GUESTS], locality=w.Locality(region="r1", zone="z1", subzone="s1"))
        web1.services[WEB].ports.extend(ports)
        same("a pod", normal(ztunnel.values[WEB1].workload), normal(web1))
        web2 = w.Workload(
            uid=WEB2, name="web-2", namespace="shop", addresses=[wire.packed("10.0.0.2")], network="net1",
            service_account="web", node="n2", canonical_name="web", canonical_revision="latest", workload_type=w.POD,
            workload_name="web-2", cluster_id="Kubernetes", status=w.UNHEALTHY, authorization_policies=[STRICT, GUESTS])
        web2.services[WEB].ports.extend(ports[:1])  # R18: no port of that name, so not that port
        same("a pod outside of the mesh that is not ready", normal(ztunnel.values[WEB2].workload), normal(web2))
        web = w.Service(
            name="web", namespace="shop", hostname="web.shop.svc.cluster.local", canonical=True,
            addresses=[w.NetworkAddress(network="net1", address=wire.packed(a)) for a in ("10.96.0.1", "fd00:96::1")],
            ports=[w.Port(service_port=80, target_port=8080, app_protocol=w.HTTP11),
                   w.Port(service_port=443, app_protocol=w.TLS)], ip_families=w.DUAL,
            load_balancing=w.LoadBalancing(
                routing_preference=[w.LoadBalancing.NETWORK, w.LoadBalancing.REGION, w.LoadBalancing.ZONE],
                mode=w.LoadBalancing.FAILOVER))
        same("a service", ztunnel.values[WEB].service, web)
        same("STRICT", ztunnel.values[STRICT], s.Authorization(
            name="istio_converted_static_strict", namespace="istio-system", scope=s.WORKLOAD_SELECTOR, action=s.DENY,
            rules=[s.Rule(clauses=[s.Clause(matches=[s.Match(not_principals=[present()])])])]))
        same("a policy", ztunnel.values[GUESTS], s.Authorization(
            name="guests", namespace="shop", scope=s.WORKLOAD_SELECTOR, action=s.ALLOW, rules=[
                s.Rule(clauses=[
                    s.Clause(matches=[s.Match(destination_ports=[8080, 8443])]),
                    s.Clause(matches=[
                        s.Match(principals=[s.StringMatch(prefix="cluster.local/ns/shop/sa/"),
                                            s.StringMatch(suffix="/sa/admin"), s.StringMatch(exact="a/ns/b/sa/c"),
                                            present()], namespaces=[s.StringMatch(exact="shop")]),
                        s.Match(not_source_ips=[s.Address(address=wire.packed("10.9.0.0"), length=16)])])]),
                s.Rule(clauses=[s.Clause(matches=[s.Match(not_namespaces=[s.StringMatch(prefix="bad")])])])]))
        for message in [*first.values(), *ztunnel.values.values()]:
            expect("nothing that the tables do not have", fields_beyond(message) == 0, message)


def fields_beyond(message):
    """Fields that the tables do not have, at any depth."""
    count = len(UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry and field.message_type.fields_by_name[
                "value"].message_type is None:
            continue
        many = value.values() if field.message_type.GetOptions().map_entry else value if field.is_repeated else [value]
        count += sum(fields_beyond(one) for one in many)
    return count


def present():
    match = wire.security.StringMatch()
    match.presence.SetInParent()
    return match


def normal(workload):
    """Defaults written out or left out are the same (R10)."""
    copy = wire.workload.Workload()
    copy.CopyFrom(workload)
    if copy.trust_domain == "cluster.local":
        copy.trust_domain = ""
    if copy.HasField("capacity") and copy.capacity.value == 1:
        copy.ClearField("capacity")
    copy.authorization_policies.sort()
    return copy


def stream(program, folder):
    """R3, R5: deltas, refusals, and what a client that comes back is told."""
    with Plane(program, folder) as plane:
        token = plane.token()
        ztunnel, other = [RustZtunnel(plane.listen, plane.root, token) for _ in range(2)]
        ztunnel.open()
        ztunnel.synchronize()
        other.open(order=(AUTHORIZATION, ADDRESS))
        other.synchronize()
        same("the order of the types does not matter", other.versions, ztunnel.versions)
        expect("nothing comes without a change", ztunnel.is_silent())

        plane.write("status", "shop.job.kubelet.yaml", report("job", "n2", ["10.0.0.3"]))
        response = ztunnel.take(ADDRESS)
        same("a new pod comes alone", [one.name for one in response.resources], ["Kubernetes//Pod/shop/job"])
        plane.write("status", "shop.job.kubelet.yaml", report("job", "n2", ["10.0.0.3"], phase="Succeeded"))
        response = ztunnel.take(ADDRESS)
        same("one that has ended is removed", (list(response.resources), list(response.removed_resources)),
             ([], ["Kubernetes//Pod/shop/job"]))

        # A refusal: the same version does not come again, the next one does, and the other client hears all of it.
        ztunnel.refuses = {WEB2}
        before = ztunnel.versions[ADDRESS][WEB2]
        plane.write("status", "shop.web-2.kubelet.yaml", report("web-2", "n2", ["10.0.0.22"]))
        response = ztunnel.take(ADDRESS)
        same("a change", [one.name for one in response.resources], [WEB2])
        expect("what was refused does not come again", ztunnel.is_silent())
        eventually("the reason is in the log", lambda: f"{WEB2}: not this one" in plane.text())
        eventually("the other client is told of it", lambda: other.take(ADDRESS) and
                   other.values[WEB2].workload.addresses[0] == wire.packed("10.0.0.22"))
        ztunnel.refuses = set()
        ztunnel.close()
        ztunnel.open()
        same("a version that was not taken is not retained", ztunnel.versions[ADDRESS][WEB2], before)
        response = ztunnel.synchronize()[ADDRESS]
        same("so it comes after a reconnect, alone", [one.name for one in response.resources], [WEB2])

        # Answers that answer nothing.
        for nonce in ["", "stale", response.nonce]:
            ztunnel.outgoing.put(wire.discovery.DeltaDiscoveryRequest(type_url=ADDRESS, response_nonce=nonce))
        expect("a stale answer draws no response", ztunnel.is_silent())

        # What happens while it is away.
        ztunnel.close()
        plane.write("status", "shop.web-2.kubelet.yaml", report("web-2", "n2", [], phase="Failed"))
        plane.write("status", "shop.web-1.kubelet.yaml", report("web-1", "n1", ["10.0.0.1"], captured=True))
        while other.take().removed_resources != [WEB2]:
            pass
        eventually("the other has both", lambda: len(other.values[WEB1].workload.addresses) == 1 or other.take())
        ztunnel.open()
        first = ztunnel.synchronize()
        same("what changed", [one.name for one in first[ADDRESS].resources], [WEB1])
        same("what is gone", list(first[ADDRESS].removed_resources), [WEB2])
        same("policies did not change", (len(first[AUTHORIZATION].resources), first[AUTHORIZATION].removed_resources),
             (0, []))
        same("both know the same", ztunnel.versions, other.versions)


def on_demand(program, folder):
    """R4: names one by one."""
    with Plane(program, folder) as plane:
        ztunnel = RustZtunnel(plane.listen, plane.root, plane.token(node="n7"), node="n7")
        ztunnel.open(on_demand=True)
        first = ztunnel.synchronize()
        same("a node without pods gets no address", list(first[ADDRESS].resources), [])
        same("and all policies", len(first[AUTHORIZATION].resources), 2)
        for name, found in [("net1/10.0.0.2", [WEB2]), (WEB1, [WEB1]), (WEB, [WEB1, WEB2, WEB]),
                            ("net1/10.96.0.1", [WEB1, WEB2, WEB]), ("net1/fd00:96::1", [WEB1, WEB2, WEB])]:
            ztunnel.ask(name)
            response = ztunnel.take(ADDRESS)
            same(f"{name}", (sorted(one.name for one in response.resources), list(response.removed_resources)),
                 (sorted(found), []))
        ztunnel.ask("net1/10.99.99.99", "shop/none.shop.svc.cluster.local", "Kubernetes//Pod/shop/none")
        response = ztunnel.take(ADDRESS)
        same("what is not there is said to be removed", sorted(response.removed_resources), sorted([
            "net1/10.99.99.99", "shop/none.shop.svc.cluster.local", "Kubernetes//Pod/shop/none"]))
        # Pending over the end of a stream: asked for again, with an empty version.
        ztunnel.close()
        ztunnel.open(on_demand=True, names=[WEB, "net1/10.98.0.1"])
        response = ztunnel.synchronize()[ADDRESS]
        expect("a name that is pending is answered on the next stream", "net1/10.98.0.1" in response.removed_resources,
               response)
        expect("and what is known of a service with it", WEB in [one.name for one in response.resources], response)

        local = RustZtunnel(plane.listen, plane.root, plane.token(node="n2"), node="n2")
        local.open(on_demand=True)
        same("pods of the node come unasked", [one.name for one in local.synchronize()[ADDRESS].resources], [WEB2])


def certificates(program, folder):
    """R46 to R51: who gets which certificate, and what it is."""
    with Plane(program, folder) as plane:
        identity = "spiffe://cluster.local/ns/shop/sa/web"
        ztunnel = RustZtunnel(plane.listen, plane.root, plane.token())
        # The name comes from the call, never from the request.
        key, chain = ztunnel.certificate(identity, names=["spiffe://cluster.local/ns/kube-system/sa/admin"])
        leaf, roots = x509.load_pem_x509_certificate(chain[0].encode()), chain[-1]
        expect("two elements at least, the root last", len(chain) >= 2 and roots.strip() == plane.root.strip())
        find = leaf.extensions.get_extension_for_oid
        san = find(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        same("its one name", [name.value for name in san.value], [identity])
        same("its key", leaf.public_key().public_numbers(), key.public_key().public_numbers())
        expect("it is for both sides of TLS", {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(
            find(ExtensionOID.EXTENDED_KEY_USAGE).value))
        expect("and is no authority", not find(ExtensionOID.BASIC_CONSTRAINTS).value.ca)
        lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        expect("a day, and two minutes before now", 86400 <= lifetime.total_seconds() <= 86400 + 180, lifetime)
        verifier = x509.verification.PolicyBuilder().store(
            x509.verification.Store([x509.load_pem_x509_certificate(roots.encode())])).extension_policies(
                ca_policy=x509.verification.ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=x509.verification.ExtensionPolicy.permit_all()).build_client_verifier()
        rest = [x509.load_pem_x509_certificate(text.encode()) for text in chain[1:-1]]
        expect("a verifier of another make takes the chain", verifier.verify(leaf, rest) is not None)

        node, other = plane.token(), plane.token(node="n2")
        refused = [
            ("no token", None, identity), ("garbage", "garbage", identity),
            ("a token that is over", plane.token(begins=-7200, ends=-3600), identity),
            ("one that begins in an hour", plane.token(begins=3600, ends=7200), identity),
            ("one for somebody else", plane.token(aud=["kubernetes"]), identity),
            ("one of another issuer", plane.token(iss="kubernetes"), identity),
            ("one of another account", plane.token(sub="system:serviceaccount:shop:web"), identity),
            ("an identity without a pod there", node, "spiffe://cluster.local/ns/shop/sa/none"),
            ("one on another node", node, "spiffe://cluster.local/ns/shop/sa/job"),
            ("the other way round", other, "spiffe://cluster.local/ns/shop/sa/none"),
            ("another trust domain", node, "spiffe://elsewhere/ns/shop/sa/web"),
            ("no identity at all", node, "web"),
        ]
        for what, token, name in refused:
            ztunnel.token = token
            try:
                ztunnel.certificate(name, names=["spiffe://cluster.local/ns/shop/sa/web"])
                expect(f"{what}: refused", False)
            except grpc.RpcError as error:
                same(f"{what}: refused, without a word why", (error.code(), error.details()),
                     (grpc.StatusCode.UNAUTHENTICATED, "the request is not authenticated"))
        ztunnel.token = plane.token(begins=5)
        expect("a clock that is a little ahead is nothing", ztunnel.certificate(identity)[1])
        for seconds, good in [(0, True), (3600, True), (90 * 86400, True), (90 * 86400 + 1, False)]:
            try:
                ztunnel.certificate(identity, seconds=seconds)
                expect(f"{seconds} s are given", good)
            except grpc.RpcError as error:
                expect(f"{seconds} s are refused", not good and error.code() == grpc.StatusCode.UNAUTHENTICATED, error)


def faults(program, folder):
    """The stream ends in every phase; the controller is killed; tokens are over."""
    with Plane(program, folder) as plane:
        token = plane.token()
        watcher = RustZtunnel(plane.listen, plane.root, token)
        watcher.open()
        watcher.synchronize()

        def cut(what, steps):
            ztunnel = RustZtunnel(plane.listen, plane.root, token)
            ztunnel.open()
            steps(ztunnel)
            ztunnel.close()
            ztunnel.open()
            first = ztunnel.synchronize()
            same(f"{what}: the same in the end", ztunnel.versions, watcher.versions)
            ztunnel.close()
            ztunnel.open()
            again = ztunnel.synchronize()
            same(f"{what}: and nothing twice", [len(one.resources) for one in again.values()], [0, 0])
            ztunnel.close()
            return first

        def refuse(ztunnel):
            response = ztunnel.response()
            ztunnel.answer(response, ["no"])

        def half(ztunnel):
            ztunnel.take()

        cut("before the first response", lambda ztunnel: None)
        cut("before its answer", lambda ztunnel: ztunnel.response())
        cut("amid the first push", half)
        cut("during a refusal", refuse)
        cut("after all of it", lambda ztunnel: ztunnel.synchronize())

        # A client that reads nothing holds nobody up.
        slow = RustZtunnel(plane.listen, plane.root, token)
        slow.open()
        slow.response()
        for number in range(20):
            plane.write("status", "shop.job.kubelet.yaml", report("job", "n2", [f"10.0.1.{number + 1}"]))
            eventually("others are served beside one that does not answer", lambda: watcher.take(ADDRESS).resources[0]
                       .name.endswith("/job") and watcher.values["Kubernetes//Pod/shop/job"].workload.addresses[0]
                       == wire.packed(f"10.0.1.{number + 1}"))
        slow.apply(first := slow.response())
        slow.answer(first)
        slow.close()

        # Connections that are cut at TCP, before and in the handshake, and bytes that are none.
        host, port = plane.listen.rsplit(":", 1)
        for junk in [b"", b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 4096]:
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(junk)
        expect("the next one is served", cut("after junk", lambda ztunnel: None))

        # Killed, and back with a count that begins anew: what is retained is as good as before.
        plane.kill()
        try:
            while True:
                watcher.response()
        except StreamOver as over:
            expect("the stream ends with the controller", over.code == grpc.StatusCode.UNAVAILABLE, over)
        plane.write("status", "shop.web-2.kubelet.yaml", report("web-2", "n2", ["10.0.0.5"]))
        plane.start()

        def reopen():
            try:
                watcher.open()
                return watcher.synchronize()
            except StreamOver:
                return None

        first = eventually("it is served again", reopen)
        same("what changed meanwhile comes alone", [one.name for one in first[ADDRESS].resources], [WEB2])
        same("policies are as they were", len(first[AUTHORIZATION].resources), 0)
        nonces = set()
        for number in range(3):
            plane.write("status", "shop.web-2.kubelet.yaml", report("web-2", "n2", [f"10.0.0.{number + 6}"]))
            nonces.add(watcher.take(ADDRESS).nonce)
        same("nonces differ", len(nonces), 3)

        # Tokens: one that is over opens nothing; a stream that is open goes on.
        def opens(token):
            ztunnel = RustZtunnel(plane.listen, plane.root, token)
            ztunnel.open()
            try:
                return bool(ztunnel.synchronize())
            except StreamOver as over:
                expect("a refusal is one of the caller", over.code == grpc.StatusCode.UNAUTHENTICATED, over)
                return False
            finally:
                ztunnel.close()

        for what, bad in [("over", plane.token(begins=-7200, ends=-60)), ("not yet in force", plane.token(begins=600)),
                          ("none", None)]:
            expect(f"a token that is {what} opens nothing", not opens(bad))
        ending = plane.token(ends=-7)  # within the leeway of ten seconds
        short = RustZtunnel(plane.listen, plane.root, ending)
        short.open()
        short.synchronize()
        eventually("the token is over", lambda: not opens(ending))
        plane.write("status", "shop.web-2.kubelet.yaml", report("web-2", "n2", ["10.0.0.30"]))
        expect("a stream outlives its token", short.take(ADDRESS).resources[0].name == WEB2)

        # Many that come and go at once, amid changes.
        failures = []

        def come_and_go(number):
            try:
                client = RustZtunnel(plane.listen, plane.root, token)
                for round in range(5):
                    client.open()
                    if round % 2:
                        client.response()
                    else:
                        client.synchronize()
                    client.close()
                client.channel.close()
            except Exception as error:  # told below
                failures.append(repr(error))

        threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for number in range(10):
            plane.write("status", "shop.web-2.kubelet.yaml", report("web-2", "n2", [f"10.0.0.{number + 40}"]))
        for thread in threads:
            thread.join()
        same("nobody who comes and goes is refused", failures, [])
        eventually("the one that stays has the last state", lambda: watcher.values[WEB2].workload.addresses[0]
                   == wire.packed("10.0.0.49") or (watcher.take(ADDRESS) and False))


SCENES = {"resources": resources, "stream": stream, "on-demand": on_demand, "certificates": certificates,
          "faults": faults}

if __name__ == "__main__":
    SCENES[sys.argv[3]](sys.argv[1], sys.argv[2])
