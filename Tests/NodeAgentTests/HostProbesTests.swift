import Addressing
import Glibc
import LinuxNetwork
import Netlink
import ObjectSource
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

@Suite("Who may be probed where")
struct HostProbesTests {
    private let address = IPAddress(10, 0, 0, 1)
    private let other = IPAddress(10, 0, 0, 2)

    @Test("a pod that gets a gone pod's address keeps it when the old one's end is told")
    func reuse() {
        var probes = HostProbes()
        probes.claim("old", [address, other], [80])
        probes.claim("new", [address], [8080])
        #expect(probes.destinations == [address: [8080], other: [80]])
        let first = probes.release("old")
        #expect(first)
        #expect(probes.destinations == [address: [8080]])
        let again = probes.release("old")
        #expect(!again)
        _ = probes.release("new")
        #expect(probes.destinations.isEmpty)
    }

    @Test("where it is not known who came last an address is nobody's, until one of them goes")
    func doubt() {
        var probes = HostProbes()
        probes.adopt([("a", [address], [80]), ("b", [address, other], [81])])
        #expect(probes.destinations == [other: [81]])
        _ = probes.release("a")
        #expect(probes.destinations == [address: [81], other: [81]])
        probes.claim("c", [address], [82])
        #expect(probes.destinations == [address: [82], other: [81]])
    }
}

@Suite("The node's rules for probes in the agent's hands", .serialized)
struct HostProbesAgentTests {
    private static let v4 = "probes-v4"

    /// What the node's table holds for IPv4; `nil` without a table.
    private static func elements(_ node: SharedNamespace) throws -> Set<[UInt8]>? {
        try node.value.run { () throws(NetlinkError) in
            var nftables = try NftablesSocket()
            return try nftables.table("apus-host")?.sets.first { $0.name == v4 }?.elements
        }
    }

    /// The cgroup and level that the node's rules look for.
    private static func cgroup(_ node: SharedNamespace) throws -> (level: UInt32, id: [UInt8])? {
        let rules = try node.value.run { () throws(NetlinkError) in
            var nftables = try NftablesSocket()
            return try nftables.table("apus-host")?.chains.flatMap(\.rules) ?? []
        }
        for rule in rules where rule.comment?.contains("probes begin") ?? false {
            for (load, compare) in zip(rule.expressions, rule.expressions.dropFirst()) {
                if case .loadSocketCgroup(let level) = load, case .compare(.equal, let id) = compare {
                    return (level, id)
                }
            }
        }
        return nil
    }

    private static func harm(_ node: SharedNamespace, _ body: (inout Nftables.Batch) -> Void) throws {
        try node.value.run { () throws(NetlinkError) in
            var nftables = try NftablesSocket()
            var batch = Nftables.Batch()
            body(&batch)
            try nftables.commit(batch)
        }
    }

    private static func element(_ host: UInt8, _ port: UInt16) -> [UInt8] {
        [10, 99, 0, host, UInt8(port >> 8), UInt8(port & 255), 0, 0]
    }

    private static func node() throws -> SharedNamespace { SharedNamespace(try NetworkNamespace.make()) }

    private static func fixture(
        _ node: SharedNamespace, folder: TemporaryFolder? = nil, source: FakeSource? = nil,
        keeper: FakeKeeper? = nil, _ exemption: ProbeExemption = .kubelet, kubelet: String? = nil
    ) async throws -> AgentFixture {
        let fixture = try await AgentFixture(folder: folder, source: source, keeperPods: keeper, node: node) {
            $0.probeExemption = exemption
            $0.kubeletCgroup = kubelet
            $0.kubeletInterval = .milliseconds(20)
        }
        fixture.source.setNamespace("shop", ambient: true)
        return fixture
    }

    private static func setPod(_ source: FakeSource, _ name: String, uid: String, ports: [UInt16]) {
        source.setPod(name, uid: uid)
        source.change {
            $0.pods[ObjectName(namespace: "shop", name: name)]?.spec.containers = [
                Container(name: "main", probePorts: ports)
            ]
        }
    }

    @Test("a pod's probe ports are exempt in the node and in the pod while it is captured, and nothing stays")
    func life() async throws {
        let node = try Self.node()
        let fixture = try await Self.fixture(node)
        Self.setPod(fixture.source, "web", uid: "u-1", ports: [8080, 80])
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        #expect(try Self.elements(node) == [Self.element(7, 80), Self.element(7, 8080)])
        let families = try RedirectionPlan.families(in: pod.namespace.value)
        func verify(_ ports: [UInt16]) throws -> [Drift] {
            try NftablesBackend().verify(
                RedirectionPlan(families: families, probePorts: ports), .capturing, in: pod.namespace.value)
        }
        #expect(try verify([80, 8080]).isEmpty)

        // The probes change.
        Self.setPod(fixture.source, "web", uid: "u-1", ports: [81])
        try await eventually("the new port") { try Self.elements(node) == [Self.element(7, 81)] }
        try await eventually("the new port in the pod") { try verify([81]).isEmpty }

        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("nothing is left") { try Self.elements(node) == nil }
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("back again") { try Self.elements(node) == [Self.element(7, 81)] }
        #expect(await fixture.call(.delete, "c1", uid: "u-1").code == 0)
        #expect(try Self.elements(node) == nil)
        try await fixture.stop()
    }

    @Test("without probes, or with the exemption off, there is nothing in the node")
    func nothing() async throws {
        for (exemption, ports) in [(ProbeExemption.kubelet, []), (.off, [80])] as [(ProbeExemption, [UInt16])] {
            let node = try Self.node()
            // Of an agent that was told otherwise.
            try Self.harm(node) { $0.addTable("apus-host") }
            let fixture = try await Self.fixture(node, exemption)
            Self.setPod(fixture.source, "web", uid: "u-1", ports: ports)
            let pod = try FakePod()
            #expect(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
            #expect(try node.value.run { try NftablesBackendTables.names() }.isEmpty)
            #expect(try pod.drift().isEmpty)
            try await fixture.stop()
        }
    }

    @Test("the end of a pod takes nothing from the one that has its address now")
    func reuse() async throws {
        let node = try Self.node()
        let fixture = try await Self.fixture(node)
        Self.setPod(fixture.source, "old", uid: "u-1", ports: [80])
        Self.setPod(fixture.source, "new", uid: "u-2", ports: [80, 81])
        let (old, new) = (try FakePod(), try FakePod())
        #expect(await fixture.call(.add, "c1", old, name: "old", uid: "u-1").code == 0)
        #expect(await fixture.call(.add, "c2", new, name: "new", uid: "u-2").code == 0)
        let expected: Set<[UInt8]> = [Self.element(7, 80), Self.element(7, 81)]
        #expect(try Self.elements(node) == expected)
        #expect(await fixture.call(.delete, "c1", name: "old", uid: "u-1").code == 0)
        #expect(try Self.elements(node) == expected)
        try await fixture.stop()
    }

    @Test("what others take out of the node's rules comes back, and is counted by kind")
    func repair() async throws {
        let node = try Self.node()
        let fixture = try await Self.fixture(node)
        Self.setPod(fixture.source, "web", uid: "u-1", ports: [80])
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        for (harm, reason) in [
            ({ $0.deleteTable("apus-host") }, "table"),
            ({ $0.deleteElements([Self.element(7, 80)], set: Self.v4, table: "apus-host") }, "set"),
            ({ $0.flush(table: "apus-host", chain: "prerouting") }, "rule"),
        ] as [((inout Nftables.Batch) -> Void, String)] {
            try Self.harm(node, harm)
            await fixture.agent.reassertHostRules()
            #expect(try Self.elements(node) == [Self.element(7, 80)])
            #expect(fixture.registry.exposition().contains("apus_agent_drift_repairs_total{reason=\"\(reason)\"}"))
        }
        await fixture.agent.reassertHostRules()
        let figures = fixture.registry.exposition()
        #expect(figures.contains(#"apus_agent_drift_repairs_total{reason="table"} 1"#))
        #expect(figures.contains(#"apus_agent_drift_repairs_total{reason="rule"} 2"#))
        try await fixture.stop()
    }

    @Test("the rules outlive the agent, and the next one takes them up")
    func restart() async throws {
        let node = try Self.node()
        let first = try await Self.fixture(node)
        Self.setPod(first.source, "web", uid: "u-1", ports: [80])
        let pod = try FakePod()
        #expect(await first.call(.add, "c1", pod, uid: "u-1").code == 0)
        try await first.stop()
        #expect(try Self.elements(node) == [Self.element(7, 80)])
        // Meanwhile somebody adds what is not ours to have.
        try Self.harm(node) { $0.addElements([Self.element(8, 80)], set: Self.v4, table: "apus-host") }
        let second = try await Self.fixture(node, folder: first.folder, source: first.source, keeper: first.keeper)
        try await eventually("it is as it was") { try Self.elements(node) == [Self.element(7, 80)] }
        #expect(await second.call(.delete, "c1", uid: "u-1").code == 0)
        #expect(try Self.elements(node) == nil)
        try await second.stop()
    }

    @Test("the rules follow kubelet: away, there, and back in another cgroup")
    func kubelet() async throws {
        let node = try Self.node()
        let folder = try TemporaryFolder()
        let program = folder.path + "/kubelet"
        try check("link") { symlink("/usr/bin/sleep", program) }
        let fixture = try await Self.fixture(node)
        Self.setPod(fixture.source, "web", uid: "u-1", ports: [80])
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        // The guard stands, the exemption does not.
        #expect(try Self.elements(node) != nil)
        #expect(try Self.cgroup(node) == nil)
        for name in ["one", "two"] {
            let cgroup = try ProcessCgroup("\(name).service")
            let kubelet = try RealProcess(program, ["1000"], in: node, cgroup)
            try await eventually("the rules know it") {
                guard let found = try Self.cgroup(node) else { return false }
                return found.id == withUnsafeBytes(of: cgroup.id) { Array($0) } && found.level == 1
            }
            kubelet.end()
            try await eventually("the rules know that it is gone") { try Self.cgroup(node) == nil }
        }
        try await fixture.stop()
    }

    @Test("what is no kubelet of this node is not taken for it, and doubt is no answer")
    func noKubelet() async throws {
        let node = try Self.node()
        let folder = try TemporaryFolder()
        let program = folder.path + "/kubelet"
        try check("link") { symlink("/usr/bin/sleep", program) }
        let (one, two) = (try ProcessCgroup("one"), try ProcessCgroup("two"))
        func find(_ path: String? = nil) throws -> SocketCgroup { try node.value.run { try KubeletCgroup.find(path) } }
        // In another network namespace.
        let stranger = try RealProcess(program, ["1000"], in: try Self.node(), one)
        #expect(throws: AgentError.self) { try find() }
        stranger.end()
        // In the root, where everybody is.
        let plain = try RealProcess(program, ["1000"], in: node, nil)
        #expect(throws: AgentError.self) { try find() }
        plain.end()
        let first = try RealProcess(program, ["1000"], in: node, one)
        #expect(try find() == SocketCgroup(id: one.id, level: 1))
        let second = try RealProcess(program, ["1000"], in: node, two)
        #expect(throws: AgentError.self) { try find() }
        // Named, there is no doubt.
        #expect(try find(two.name) == SocketCgroup(id: two.id, level: 1))
        #expect(throws: AgentError.self) { try find("/") }
        #expect(throws: AgentError.self) { try find("/../kubelet.service") }
        #expect(throws: AgentError.self) { try find("/apus-test-none") }
        first.end()
        second.end()
    }
}

private enum NftablesBackendTables {
    static func names() throws(NetlinkError) -> [String] {
        var nftables = try NftablesSocket()
        return try nftables.tables().map(\.name) + nftables.tables(.bridge).map(\.name)
    }
}

/// A cgroup of a test's.
private final class ProcessCgroup {
    let name: String
    let path: String
    let id: UInt64

    init(_ name: String) throws {
        let hybrid = "/sys/fs/cgroup/unified"
        let root = access(hybrid + "/cgroup.procs", F_OK) == 0 ? hybrid : "/sys/fs/cgroup"
        let own = "/apus-test-\(getpid())-\(name)"
        let folder = root + own
        try check("make \(folder)") { mkdir(folder, 0o755) }
        var info = stat()
        try check("stat \(folder)") { stat(folder, &info) }
        self.name = own
        path = folder
        id = UInt64(info.st_ino)
    }

    /// A process that has just ended still counts for a moment.
    deinit {
        for _ in 0..<1000 where rmdir(path) != 0 && errno == EBUSY { poll(nil, 0, 5) }
    }
}

/// A process in a namespace and a cgroup, ended at the latest with the value.
private final class RealProcess {
    private var id: pid_t = 0

    init(_ program: String, _ arguments: [String], in namespace: SharedNamespace, _ cgroup: ProcessCgroup?) throws {
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var child: pid_t = 0
        try namespace.value.run {
            let result = posix_spawn(&child, program, nil, nil, &words, environ)
            guard result == 0 else { throw SystemError("spawn \(program)", code: result) }
        }
        id = child
        // It goes by its name a moment after the spawning returns.
        let name = String(program.split(separator: "/").last ?? "")
        var tries = 0
        while try Self.name(of: child) != name {
            tries += 1
            guard tries < 1000 else { throw SystemError("\(program) does not start", code: ETIMEDOUT) }
            poll(nil, 0, 5)
        }
        guard let cgroup else { return }
        let path = cgroup.path + "/cgroup.procs"
        let file = FileDescriptor(owning: try check("open \(path)") { open(path, O_WRONLY | O_CLOEXEC) })
        let (raw, text) = (file.raw, "\(child)")
        try check("write \(path)") { CInt(Glibc.write(raw, text, text.utf8.count)) }
    }

    private static func name(of process: pid_t) throws -> String {
        let path = "/proc/\(process)/comm"
        let file = FileDescriptor(owning: try check("open \(path)") { open(path, O_RDONLY | O_CLOEXEC) })
        var buffer = [UInt8](repeating: 0, count: 32)
        let raw = file.raw
        let count = try check("read \(path)") { CInt(read(raw, &buffer, buffer.count)) }
        return String(decoding: buffer[..<Int(count)].prefix { $0 != 10 }, as: UTF8.self)
    }

    func end() {
        guard id > 0 else { return }
        kill(id, SIGKILL)
        var status: CInt = 0
        while waitpid(id, &status, 0) < 0, errno == EINTR {}
        id = 0
    }

    deinit { end() }
}

@Suite("Pods on branch interfaces in the agent's hands", .serialized)
struct BranchInterfaceAgentTests {
    private static let pod = PolicyRule(.v4, priority: 512, destination: CIDR(IPAddress(10, 99, 0, 7)), table: 101)

    /// A node with a link to a pod, and what AWS's plugin makes for it.
    private static func node() throws -> SharedNamespace {
        let node = SharedNamespace(try NetworkNamespace.make())
        try node.value.run {
            let setting = try FileDescriptor.open("/proc/sys/net/ipv4/tcp_early_demux", flags: O_WRONLY)
            let raw = setting.raw
            try #require(write(raw, "0", 1) == 1)
            var routes = try RouteSocket()
            try routes.createBridge("veni0")
            let link = try #require(try routes.link(named: "veni0"))
            try routes.setUp(link.index)
            try routes.add(Route(to: CIDR(IPAddress(10, 99, 0, 7)), interface: link.index, table: 101))
            try routes.add(PolicyRule(.v4, priority: 10, inputInterface: "veni0", table: 101))
        }
        return node
    }

    private static func rules(_ node: SharedNamespace) throws -> [PolicyRule] {
        try node.value.run { () throws(NetlinkError) in
            var routes = try RouteSocket()
            return try routes.rules(.v4)
        }
    }

    @Test(
        "the rules are there while a pod's probes are exempt, come back when taken away, and go",
        arguments: [true, false])
    func life(isServed: Bool) async throws {
        let node = try Self.node()
        let before = try Self.rules(node)
        let fixture = try await AgentFixture(node: node) {
            $0.probeExemption = .istio
            $0.servesBranchInterfaces = isServed
        }
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        if isServed {
            #expect(try Self.rules(node).contains(Self.pod))
            try node.value.run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                try routes.delete(Self.pod)
            }
            await fixture.agent.reassertHostRules()
            #expect(try Self.rules(node).contains(Self.pod))
            #expect(fixture.registry.exposition().contains("apus_agent_drift_repairs_total{reason=\"policy_rule\"} 1"))
        } else {
            #expect(try Self.rules(node) == before)
        }
        #expect(await fixture.call(.delete, "c1", pod).code == 0)
        #expect(try Self.rules(node) == before)
        try await fixture.stop()
    }
}
