import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// Others have rules in a pod too. Theirs stay as they are, and what both want is ours first.
@Suite("Other software's rules", .serialized)
struct OtherSoftwareTests {
    /// One table of each family, at priorities before, at and behind ours.
    private static let foreign = """
        add table ip nat
        add chain ip nat PREROUTING { type nat hook prerouting priority -100; }
        add chain ip nat OUTPUT { type nat hook output priority -150; }
        add chain ip nat EXTRA
        add rule ip nat OUTPUT ip daddr 192.0.2.1 tcp dport 80 counter dnat to 192.0.2.2:81
        add rule ip nat PREROUTING tcp dport 8081 counter jump EXTRA
        add rule ip nat EXTRA meta l4proto tcp counter redirect to :8082 comment "not yours"
        add table ip6 filter
        add chain ip6 filter INPUT { type filter hook input priority 0; policy accept; }
        add rule ip6 filter INPUT meta mark 0x111 counter accept
        add table inet app
        add set inet app blocked { type ipv4_addr; elements = { 192.0.2.9, 192.0.2.10 }; }
        add chain inet app out { type filter hook output priority -300; }
        add rule inet app out ip daddr @blocked counter drop
        add table inet apus-other { comment "a name like ours"; }
        add table arp seen
        add chain arp seen in { type filter hook input priority 0; }
        """
    private static let tables = ["ip nat", "ip6 filter", "inet app", "inet apus-other", "arp seen"]

    private static func foreignState(_ pod: borrowing NetworkNamespace) throws -> [String] {
        var state: [String] = []
        for table in tables { state.append(try Judge.nft("list table \(table)", in: pod, handles: true)) }
        return try pod.run {
            var routes = try RouteSocket()
            for family in IPAddress.Family.allCases {
                state += try routes.rules(family).filter { $0 != PolicyRouting.rule(family) }.map(\.description)
                state += try routes.routes(family, table: RedirectionPlan.routeTable)
                    .filter { $0.kind == .unicast }.map(\.description)
            }
            return state
        }
    }

    @Test("are the same byte for byte whatever is done with ours", arguments: Means.allCases)
    func untouched(tested: Means) async throws {
        try await onThread {
            let network = try Network()
            _ = try Judge.nft(Self.foreign, in: network.pod)
            try network.pod.run {
                var routes = try RouteSocket()
                // Rules with our priority and with our mark, and a route in our table, none of them ours.
                try routes.add(
                    PolicyRule(.v4, priority: RedirectionPlan.rulePriority, source: CIDR("192.0.2.0/24"), table: 7))
                try routes.add(PolicyRule(.v6, priority: 5, mark: 0x111, mask: 0xffff_ffff, table: 9))
                try routes.add(
                    Route(
                        to: try #require(CIDR("192.0.2.64/26")), via: Network.worldAddress(.v4),
                        table: RedirectionPlan.routeTable))
            }
            let before = try Self.foreignState(network.pod)
            let backend = try tested.backend()
            let plans = [RedirectionPlan(), RedirectionPlan(capturesInbound: false, capturesDNS: true)]
            for plan in plans {
                try backend.apply(plan, in: network.pod)
                #expect(try Self.foreignState(network.pod) == before)
                // Nothing of theirs is drift of ours.
                #expect(try backend.verify(plan, .capturing, in: network.pod).isEmpty)
            }
            try backend.leave(plans[1], in: network.pod)
            #expect(try Self.foreignState(network.pod) == before)
            try backend.remove(in: network.pod)
            #expect(try Self.foreignState(network.pod) == before)
        }
    }

    /// Translations at the priorities other software uses, made before ours or after it.
    enum Order: CaseIterable, Sendable { case before, after }

    private static func harm(_ family: IPAddress.Family) -> String {
        let table = family == .v4 ? "ip" : "ip6"
        let target = family == .v4 ? "\(Network.worldAddress(.v4)):81" : "[\(Network.worldAddress(.v6))]:81"
        return """
            add table \(table) theirs
            add chain \(table) theirs out { type nat hook output priority -150; }
            add rule \(table) theirs out tcp dport 80 dnat to \(target)
            add rule \(table) theirs out udp dport 9999 redirect to :9998
            add chain \(table) theirs in { type nat hook prerouting priority -150; }
            add rule \(table) theirs in tcp dport 8080 redirect to :8081
            """
    }

    @Test(
        "that translate do not take a connection past ours", arguments: Order.allCases, IPAddress.Family.allCases)
    func first(order: Order, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            if order == .before { _ = try Judge.nft(Self.harm(family), in: network.pod) }
            try NftablesBackend().apply(RedirectionPlan(), in: network.pod)
            if order == .after { _ = try Judge.nft(Self.harm(family), in: network.pod) }
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let bypass = try Listener(Endpoint(any(family), 81), in: network.world)
            let target = Endpoint(Network.serviceAddress(family), 80)
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: target)
            let out = try ztunnel.outbound.accept().stream
            #expect(Sockets.originalDestination(out.fd) == target)
            try app.exchange(with: out)
            #expect(!bypass.hasConnection)

            let unseen = try Listener(Endpoint(any(family), 8081), in: network.pod)
            let client = try Stream(family: family, in: network.world)
            try client.connect(to: Endpoint(Network.podAddress(family), 8080))
            let within = try ztunnel.inbound.accept().stream
            #expect(Sockets.originalDestination(within.fd) == Endpoint(Network.podAddress(family), 8080))
            try client.exchange(with: within)
            #expect(!unseen.hasConnection)
        }
    }

    @Test("that concern what is not captured still work", arguments: Order.allCases, IPAddress.Family.allCases)
    func theirs(order: Order, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            if order == .before { _ = try Judge.nft(Self.harm(family), in: network.pod) }
            try NftablesBackend().apply(RedirectionPlan(exemptsEveryProbePort: true), in: network.pod)
            if order == .after { _ = try Judge.nft(Self.harm(family), in: network.pod) }
            let loopback: IPAddress = family == .v4 ? .loopbackV4 : .loopbackV6
            let server = try DatagramSocket(family, at: loopback, port: 9998, in: network.pod)
            let client = try DatagramSocket(family, in: network.pod)
            try client.connect(to: Endpoint(Network.worldAddress(family), 9999))
            try client.send([1])
            try server.send([2], to: server.receive().source)
            #expect(try client.receive().bytes == [2])

            // A probe comes in past ours, and by theirs.
            let app = try Listener(Endpoint(any(family), 8081), in: network.pod)
            let probe = try Stream(family: family, in: network.world)
            try Sockets.bind(probe.fd, to: Endpoint(RedirectionPlan.probeAddress(family), 0), dualStack: family == .v6)
            try probe.connect(to: Endpoint(Network.podAddress(family), 8080))
            try probe.exchange(with: app.accept().stream)
        }
    }
}
