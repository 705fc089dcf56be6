"""The discovery stream ends, in every phase it can be in. A connection of an application stays open all the while, and new
ones open; at the end ztunnel knows what it must."""

import grpc

import wire
from istiod import Istiod
from node import Node, Relay, eventually, expect
from wire import ADDRESS, AUTHORIZATION


class Mesh:
    """What a scene's istiod would publish, by name, and which ztunnel has to know in the end."""

    def __init__(self, *values):
        self.resources = {}
        self.put(*values)

    def put(self, *values, version="1"):
        made = [wire.resource(value, version) for value in values]
        self.resources |= {one.name: one for one in made}
        return made

    def drop(self, name):
        del self.resources[name]
        return [name]

    def of(self, kind):
        return [one for one in self.resources.values() if one.resource.type_url == kind]

    def versions(self, kind):
        return {one.name: one.version for one in self.of(kind)}

    def answer(self, stream, opening):
        """What istiod does on a new stream: sends what is not retained and tells what is gone."""
        for kind in (AUTHORIZATION, ADDRESS):
            retained = dict(opening[kind].initial_resource_versions)
            news = [one for one in self.of(kind) if retained.get(one.name) != one.version]
            gone = sorted(set(retained) - set(self.versions(kind)))
            answer = stream.deliver(kind, news, gone)
            expect("what is sent after a reconnect is taken", not answer.HasField("error_detail"), answer)

    def matches(self, node):
        known = node.known()
        wanted = {"workloads": set(), "services": set(), "policies": set()}
        for one in self.resources.values():
            if one.resource.type_url == AUTHORIZATION:
                wanted["policies"].add(one.name.split("/")[1])
            elif "//" in one.name:
                wanted["workloads"].add(one.name)
            else:
                wanted["services"].add(one.name.split("/")[1])
        return {kind: set(values) for kind, values in known.items()} == wanted


class Running:
    """A node in service with one connection open."""

    def __init__(self, node, istiod):
        self.node, self.istiod = node, istiod
        self.a, self.b = node.pods[:2]
        self.b.serve(8080)
        node.agent.expect(*node.pods)
        self.mesh = Mesh(wire.pod("a", self.a.address), wire.pod("b", self.b.address),
                         wire.policy("deny-9090", ports=[9090]))
        self.stream, self.open = None, None

    def opened(self):
        self.stream = self.istiod.stream()
        return self.stream.opening()

    def begin(self):
        """In service, with a connection open."""
        opening = self.opened()
        self.mesh.answer(self.stream, opening)
        self.ready()

    def ready(self):
        eventually("ready", lambda: self.node.is_ready)
        self.open = self.a.connect(self.b.address, 8080)
        expect("a connection is open", self.open.works())

    def still(self, when):
        expect(f"{when}: the open connection goes on", self.open.works())
        expect(f"{when}: new ones open", self.a.talks(self.b.address, 8080))

    def converge(self, when):
        """The next stream, answered as it should be."""
        opening = self.opened()
        self.still(when)
        self.mesh.answer(self.stream, opening)
        expect(f"{when}: the mesh is as it must be", self.mesh.matches(self.node), self.node.known())
        self.still(when)
        return opening


def start(program, folder, **environment):
    istiod = Istiod()
    return Node(program, folder, istiod, **environment), istiod


def phases(program, folder):
    """Cut before the first answer, amid the first push, between an answer and the next push, during a refusal."""
    node, istiod = start(program, folder)
    istiod.start(node.fd)
    with node:
        run = Running(node, istiod)
        for _ in range(3):
            run.opened()
            run.stream.cut()
        opening = run.opened()
        expect("before the first answer: nothing is retained", not any(
            request.initial_resource_versions for request in opening.values()), opening)
        run.stream.deliver(AUTHORIZATION, run.mesh.of(AUTHORIZATION))
        run.stream.cut()
        opening = run.opened()
        expect("amid the first push: the half that came is retained", dict(
            opening[AUTHORIZATION].initial_resource_versions) == run.mesh.versions(AUTHORIZATION), opening)
        expect("amid the first push: and the other half is not", not opening[ADDRESS].initial_resource_versions)
        expect("amid the first push: not ready", not node.is_ready)
        # Sent and cut at once: the answer finds nobody.
        run.stream.send(ADDRESS, run.mesh.of(ADDRESS))
        run.stream.cut(grpc.StatusCode.UNAVAILABLE)
        opening = run.opened()
        run.mesh.answer(run.stream, opening)
        run.ready()

        # Between an answer and the next push: what changed meanwhile comes with the next stream.
        run.mesh.put(wire.pod("c", "10.77.0.50"), version="7")
        run.mesh.drop("shop/deny-9090")
        run.stream.cut()
        opening = run.converge("between an answer and the next push")
        expect("what was retained was told", dict(opening[ADDRESS].initial_resource_versions)
               == {name: "1" for name in run.mesh.versions(ADDRESS) if not name.endswith("/c")}, opening)

        # During a refusal: before its answer, and right after it.
        bad = wire.resource(wire.pod("bad", "10.77.0.60", tunnel_protocol=wire.workload.LEGACY_ISTIO_MTLS), "9")
        good = run.mesh.put(wire.pod("d", "10.77.0.51"), version="9")
        run.stream.send(ADDRESS, [bad, *good])
        run.stream.cut()
        opening = run.converge("amid a refusal")
        expect("what was refused is not retained", bad.name not in opening[ADDRESS].initial_resource_versions)
        answer = run.stream.deliver(ADDRESS, [bad])
        expect("it is refused again", answer.HasField("error_detail"), answer)
        run.stream.cut()
        opening = run.converge("after a refusal")
        expect("nor after its answer", bad.name not in opening[ADDRESS].initial_resource_versions)
        mended = run.mesh.put(wire.pod("bad", "10.77.0.60"), version="10")
        expect("mended it is taken", not run.stream.deliver(ADDRESS, mended).HasField("error_detail"))
        expect("and in force", run.mesh.matches(node))
        expect("one line in the log per refusal", node.text().count("resources refused") in (2, 3), node.text())


def statuses(program, folder):
    """The ways a server ends a stream, from the orderly to the absurd."""
    node, istiod = start(program, folder)
    istiod.start(node.fd)
    with node:
        run = Running(node, istiod)
        run.begin()
        codes = grpc.StatusCode
        for number, code in enumerate([
                codes.OK, codes.UNAVAILABLE, codes.UNKNOWN, codes.INTERNAL, codes.RESOURCE_EXHAUSTED,
                codes.DEADLINE_EXCEEDED, codes.UNAUTHENTICATED, codes.UNIMPLEMENTED]):
            run.mesh.put(wire.pod(f"s{number}", f"10.77.1.{number + 1}"), version=str(number))
            run.stream.cut(code)
            run.converge(f"after status {code.name}")
        expect("each is counted", node.metric("istio_xds_connection_terminations_total") >= 8)


def bytes_cut(program, folder):
    """Cut in the middle of a message, at TCP: wherever that is."""
    node, istiod = start(program, folder, XDS_ADDRESS="https://127.0.0.1:15013")
    istiod.start(node.fd)
    relay = Relay(node.fd, 15013, 15012)
    with node:
        run = Running(node, istiod)
        run.begin()
        size = sum(one.ByteSize() for one in run.mesh.put(
            *[wire.pod(f"many{i}", f"10.78.{i // 250}.{i % 250 + 1}") for i in range(2000)], version="2"))
        # In the handshake, right behind it, and through the message.
        cuts = [600, 1500, 2500, 3500] + [4000 + size * part // 10 for part in range(1, 10)]
        relay.budgets = list(cuts)
        run.stream.cut()
        while len(relay.given) < len(cuts):
            before = len(relay.given)
            try:
                stream = istiod.stream(limit=1)
                stream.send(AUTHORIZATION)
                stream.send(ADDRESS, run.mesh.of(ADDRESS))
            except AssertionError:
                pass  # cut before there was a stream
            eventually("the next cut", lambda: len(relay.given) > before or not istiod.streams.empty())
            run.still(f"cut after {relay.given[-1] if relay.given else 0} bytes")
        # Streams that were cut may still stand in the queue; the last one lives.
        opening = run.opened()
        while not istiod.streams.empty():
            opening = run.opened()
        expect("half a message leaves nothing behind", set(opening[ADDRESS].initial_resource_versions) <= set(
            run.mesh.versions(ADDRESS)), opening[ADDRESS].initial_resource_versions)
        run.mesh.answer(run.stream, opening)
        expect("the mesh is as it must be", run.mesh.matches(node))
        run.still("after all cuts")


def restart(program, folder):
    """istiod goes away, and another comes with the same objects under other versions and nonces."""
    node, istiod = start(program, folder)
    istiod.start(node.fd)
    with node:
        run = Running(node, istiod)
        run.begin()
        istiod.stop()
        for _ in range(20):
            run.still("without a control plane")
        expect("it stays ready", node.is_ready)
        other = Istiod(istiod.authority)
        other.start(node.fd)
        node.istiod = run.istiod = other
        for one in run.mesh.resources.values():
            one.version = "x" + one.version
        run.mesh.put(wire.pod("e", "10.77.0.70"), version="x1")
        opening = run.converge("after the restart")
        expect("the old versions were told", set(opening[ADDRESS].initial_resource_versions.values()) == {"1"}, opening)
        run.stream.cut()
        opening = run.converge("after another cut")
        expect("the new versions are told", dict(opening[ADDRESS].initial_resource_versions)
               == run.mesh.versions(ADDRESS), opening)


def disorder(program, folder):
    """Pushes that come twice, before an answer to the one before, out of order, or that contradict themselves."""
    node, istiod = start(program, folder)
    istiod.start(node.fd)
    with node:
        run = Running(node, istiod)
        run.begin()
        stream = run.stream

        def many(*pushes):
            """All at once, then all answers."""
            sent = [stream.send(*push) for push in pushes]
            answers = [stream.next() for _ in sent]
            expect("every push is answered, in order", [one.response_nonce for one in answers] == sent, answers)
            return answers

        twice = run.mesh.put(wire.pod("f", "10.77.0.71"), version="2")
        many((ADDRESS, twice), (ADDRESS, twice), (AUTHORIZATION, run.mesh.of(AUTHORIZATION)), (ADDRESS, twice))
        expect("twice is once", run.mesh.matches(node))
        run.still("after pushes that came twice")

        stream.deliver(ADDRESS, twice, nonce="same")
        stream.deliver(ADDRESS, twice, nonce="same")
        expect("a nonce that comes twice too", run.mesh.matches(node))

        old, new = wire.pod("f", "10.77.0.71"), wire.pod("f", "10.77.0.72")
        many((ADDRESS, [wire.resource(new, "3")]), (ADDRESS, [wire.resource(old, "2")]))
        run.mesh.put(old, version="2")
        workload = node.known()["workloads"][old.uid]
        expect("what comes last is in force", workload["workloadIps"] == ["10.77.0.71"], workload)

        # Removed and set in one message: removals first, so it stays (5.3).
        many((ADDRESS, [wire.resource(new, "4")], [new.uid]))
        run.mesh.put(new, version="4")
        expect("removed and set in one message: it is there", run.mesh.matches(node))
        many((ADDRESS, [], [new.uid]), (ADDRESS, [], [new.uid]), (ADDRESS, [], ["nobody", "shop/none", "a/b/c/d/e"]))
        run.mesh.drop(new.uid)
        expect("removals of what is not there change nothing", run.mesh.matches(node))

        # Endpoints before their service, a policy after its workload.
        host = "late.shop.svc.cluster.local"
        member = wire.pod("b", run.b.address, services=[(host, [(80, 8080)])])
        many((ADDRESS, run.mesh.put(member, version="5")))
        many((ADDRESS, run.mesh.put(wire.service("late", "10.96.0.9", [(80, 8080)]), version="5")))
        expect("endpoints may come before their service", run.a.talks("10.96.0.9", 80))
        run.still("after all of it")
        run.stream.cut()
        opening = run.converge("on the next stream")
        expect("and what is retained is what was said last", dict(opening[ADDRESS].initial_resource_versions)
               == run.mesh.versions(ADDRESS), opening)


SCENES = {"phases": phases, "statuses": statuses, "bytes": bytes_cut, "restart": restart, "disorder": disorder}
