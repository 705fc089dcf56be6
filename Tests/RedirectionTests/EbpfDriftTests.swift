import Addressing
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

@Suite("Verification, repair and removal of capture by eBPF", .serialized)
struct EbpfDriftTests {
    /// Another copy than the back end's.
    private static let programs = Result { try CapturePrograms() }

    /// With every program there is but the one that is not this back end's.
    private static let plan = RedirectionPlan(probePorts: [8080, 9090], dropsUncaptured: true, requiresSeal: true)

    /// Every eBPF filter of the calling thread's namespace.
    static func filters() throws -> [ClassifierFilter] {
        var routes = try RouteSocket()
        var found: [ClassifierFilter] = []
        for link in try routes.links() {
            for direction in [ClassifierFilter.Direction.ingress, .egress] {
                found += try routes.filters(link.index, direction).classifiers
            }
        }
        return found
    }

    /// Applies the plan, does `harm`, and returns what verification finds before and after a repair.
    private func drift(
        _ phase: RedirectionPhase = .capturing,
        after harm: @escaping @Sendable (inout RouteSocket) throws -> Void
    ) async throws -> [Drift] {
        try await onThread {
            let network = try Network()
            let (backend, plan) = (try Means.ebpf.backend(), Self.plan)
            try backend.apply(plan, in: network.pod)
            if phase == .leaving { try backend.leave(plan, in: network.pod) }
            try #require(try backend.verify(plan, phase, in: network.pod).isEmpty)
            let whole = try network.pod.run { try Self.filters() }
            try network.pod.run {
                var routes = try RouteSocket()
                try harm(&routes)
            }
            let found = try backend.verify(plan, phase, in: network.pod)
            if phase == .leaving {
                try backend.leave(plan, in: network.pod)
            } else {
                try backend.apply(plan, in: network.pod)
            }
            #expect(try backend.verify(plan, phase, in: network.pod).isEmpty)
            #expect(try network.pod.run { try Self.filters() } == whole)
            return found
        }
    }

    @Test("nothing is there")
    func nothing() async throws {
        let found = try await onThread {
            try Means.ebpf.backend().verify(RedirectionPlan(), .capturing, in: Network().pod)
        }
        #expect(
            Set(found) == [
                .routeMissing(.v4), .routeMissing(.v6), .policyRuleMissing(.v4), .policyRuleMissing(.v6),
                .programMissing(interface: "lo", program: "apus_loopback"),
                .programMissing(interface: "eth0", program: "apus_ingress"),
                .programMissing(interface: "eth0", program: "apus_egress"),
            ])
    }

    @Test(
        "a program is taken off", arguments: CaptureProgram.allCases.filter { $0 != .forged },
        [RedirectionPhase.capturing, .leaving])
    func programMissing(program: CaptureProgram, phase: RedirectionPhase) async throws {
        let found = try await drift(phase) { routes in
            for filter in try Self.filters() where filter.name == program.rawValue { try routes.delete(filter) }
        }
        let interface = program == .loopback ? "lo" : "eth0"
        #expect(Set(found) == [.programMissing(interface: interface, program: program.rawValue)])
        // Two ports, two directions.
        #expect(found.count == ([.probe, .line].contains(program) ? 2 : 1))
    }

    @Test("a program's orders are changed, or another is in its place")
    func programDiffers() async throws {
        let orders = try await drift { routes in
            guard var filter = try Self.filters().first(where: { $0.name == "apus_egress" }) else { return }
            filter.classID = 0
            try routes.put(filter, program: Self.programs.get().descriptor(.egress))
        }
        #expect(orders == [.programDiffers(interface: "eth0", program: "apus_egress")])
        let other = try await drift { routes in
            guard let filter = try Self.filters().first(where: { $0.name == "apus_egress" }) else { return }
            // The right name and orders, the wrong program: only its hash tells.
            try routes.put(filter, program: Self.programs.get().descriptor(.ingress))
        }
        #expect(other == [.programDiffers(interface: "eth0", program: "apus_egress")])
    }

    @Test("the place of the filters is taken away")
    func placeGone() async throws {
        let found = try await drift { routes in
            guard let link = try routes.link(named: "eth0") else { return }
            try routes.deleteClsact(link.index)
        }
        let programs = ["apus_probe", "apus_probe", "apus_ingress", "apus_line", "apus_egress", "apus_line"]
        #expect(found == programs.map { .programMissing(interface: "eth0", program: $0) })
    }

    @Test("one of ours is where it should not be")
    func unexpected() async throws {
        let found = try await drift { routes in
            let link = try #require(try routes.link(named: "eth0"))
            let stray = CaptureFilter(interface: link.index, program: .probe, classID: 22)
            let programs = try Self.programs.get()
            try routes.put(stray.filter(tag: programs.tag(.probe)), program: programs.descriptor(.probe))
        }
        #expect(found == [.programUnexpected(interface: "eth0", program: "apus_probe")])
    }

    @Test("an interface comes later")
    func newInterface() async throws {
        try await onThread {
            let network = try Network()
            let (backend, plan) = (try Means.ebpf.backend(), RedirectionPlan())
            try backend.apply(plan, in: network.pod)
            try network.pod.run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                try routes.createBridge("net1")
            }
            #expect(
                try backend.verify(plan, .capturing, in: network.pod) == [
                    .programMissing(interface: "net1", program: "apus_ingress"),
                    .programMissing(interface: "net1", program: "apus_egress"),
                ])
            try backend.apply(plan, in: network.pod)
            #expect(try backend.verify(plan, .capturing, in: network.pod).isEmpty)
        }
    }

    @Test("route and policy rule are deleted", arguments: IPAddress.Family.allCases)
    func routing(family: IPAddress.Family) async throws {
        #expect(try await drift { try $0.delete(PolicyRouting.rule(family)) } == [.policyRuleMissing(family)])
        #expect(try await drift { try $0.delete(PolicyRouting.route(family)) } == [.routeMissing(family)])
    }

    @Test("a kernel parameter is changed", arguments: CaptureSetting.allCases)
    func setting(_ setting: CaptureSetting) async throws {
        let found = try await drift { _ in try setting.setting.write("0") }
        #expect(found == [.settingDiffers(name: setting.setting.name, value: "0", wanted: "1")])
    }

    @Test("a death in the middle of marking open connections is mended by applying again")
    func diedWhileSparing() async throws {
        let found = try await drift { routes in
            guard var filter = try Self.filters().first(where: { $0.name == "apus_egress" }) else { return }
            filter.classID |= CaptureFlags.sparesUnmarked.rawValue
            try routes.put(filter, program: Self.programs.get().descriptor(.egress))
        }
        #expect(found == [.programDiffers(interface: "eth0", program: "apus_egress")])
    }

    /// All that capture touches, as text.
    private static func state(_ network: Network) throws -> [String] {
        try network.pod.run {
            var routes = try RouteSocket()
            var found: [String] = []
            for family in IPAddress.Family.allCases {
                found += try routes.rules(family).map(\.description)
                found += try routes.routes(family)
                    .filter { !$0.destination.base.isLinkLocal && ($0.table != Route.localTable || family == .v4) }
                    .map(\.description)
            }
            found += CaptureSetting.allCases.map { $0.setting.read() ?? "" }
            found += try routes.disciplines().map { "\($0)" }
            return found + (try filters().map { "\($0)" })
        }
    }

    @Test("removal leaves all as it was, and other software's filters", arguments: ["0", "1"], [false, true])
    func removal(before value: String, foreign: Bool) async throws {
        try await onThread {
            let network = try Network()
            let backend = try Means.ebpf.backend()
            let programs = try Self.programs.get()
            try network.pod.run {
                for setting in CaptureSetting.allCases { try setting.setting.write(value) }
                guard foreign else { return }
                var routes = try RouteSocket()
                guard let link = try routes.link(named: "eth0") else { return }
                try routes.addClsact(link.index)
                try routes.put(
                    ClassifierFilter(
                        interface: link.index, direction: .egress, priority: 7, handle: 1, name: "other",
                        classID: 0, tag: []), program: programs.descriptor(.loopback))
            }
            let whole = try Self.state(network)
            try backend.apply(Self.plan, in: network.pod)
            #expect(try Self.state(network) != whole)
            try backend.apply(RedirectionPlan(), in: network.pod)
            try backend.apply(Self.plan, in: network.pod)
            try backend.leave(Self.plan, in: network.pod)
            for _ in 0..<2 {
                try backend.remove(in: network.pod)
                let after = try Self.state(network)
                #expect(after == whole, "new: \(after.filter { !whole.contains($0) })")
            }
        }
    }

    @Test("what the programs are attached to needs no process: they stay when the back end is gone")
    func outlives() async throws {
        try await onThread {
            let network = try Network()
            do { try EbpfBackend().apply(RedirectionPlan(), in: network.pod) }
            #expect(try Means.ebpf.backend().verify(RedirectionPlan(), .capturing, in: network.pod).isEmpty)
            let ztunnel = try FakeZtunnel(.v4, in: network.pod)
            let app = try Stream(family: .v4, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(.v4), 80))
            try app.exchange(with: ztunnel.outbound.accept().stream)
        }
    }
}
