import Addressing
import Foundation
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// A mark can be set by others than ztunnel, its seal cannot: on both back ends.
@Suite("The mark is not a key, the seal is", .serialized)
struct SealTests {
    /// The back ends as an agent chooses them.
    enum Node: String, CaseIterable, Sendable {
        case nftables, ebpf

        func backend() throws -> any RedirectionBackend {
            try RedirectionChoice.make(self == .nftables ? .nftables : .ebpf).backend
        }

        /// What is forged is captured there; nf_tables has let it past by then, and it is dropped.
        var captures: Bool { self == .ebpf }
    }

    private final class Scene: @unchecked Sendable {
        let network: Network
        let ztunnel: FakeZtunnel
        let world: Listener
        let target: Endpoint

        init(_ node: Node, _ family: IPAddress.Family, _ plan: RedirectionPlan) throws {
            network = try Network()
            ztunnel = try FakeZtunnel(family, in: network.pod)
            target = Endpoint(Network.worldAddress(family), 80)
            world = try Listener(Endpoint(any(family), 80), in: network.world)
            try node.backend().apply(plan, in: network.pod)
            try #require(try node.backend().verify(plan, .capturing, in: network.pod).isEmpty)
        }

        /// A container's process: of root, with CAP_NET_RAW alone, and what it prints.
        func contained(_ code: String) throws -> ApusProgram {
            try ApusProgram(
                program: "/usr/bin/env",
                [
                    "nsenter", "--net=/proc/\(getpid())/fd/\(network.pod.raw)", "setpriv",
                    "--bounding-set=-all,+net_raw", "python3", "-c", code,
                ])
        }

        /// A connection of such a process with a mark.
        func connect(mark: UInt32) throws -> Bool {
            let v6 = target.address.isV4 ? "" : "6"
            let program = try contained(
                """
                import socket
                s = socket.socket(socket.AF_INET\(v6))
                s.settimeout(0.6)
                s.setsockopt(socket.SOL_SOCKET, 36, \(mark))
                try:
                    s.connect(("\(target.address)", \(target.port)))
                    print("connected")
                except OSError as error:
                    print(error)
                """)
            try #require(program.status == 0, "\(program.errors)")
            return program.output == "connected\n"
        }
    }

    @Test(
        "a process with NET_RAW alone sets the mark, and gets past only where the mark is believed",
        arguments: Node.allCases, IPAddress.Family.allCases)
    func process(node: Node, family: IPAddress.Family) async throws {
        let scene = try await onThread { try Scene(node, family, RedirectionPlan(requiresSeal: true)) }
        // Of the marks that mean something to capture, and with bits that do not.
        for mark in [Mark.ztunnel, 0xf000 | Mark.ztunnel, Mark.direct] {
            let captured = node.captures || mark == Mark.direct
            #expect(try scene.connect(mark: mark) == captured)
            #expect(scene.ztunnel.outbound.hasConnection == captured)
            if captured { _ = try scene.ztunnel.outbound.accept() }
            #expect(!scene.world.hasConnection)
        }
        // ztunnel's own, and what it accepts of others.
        try await onThread {
            let own = try FakeZtunnel.dial(scene.target, in: scene.network.pod)
            try own.exchange(with: scene.world.accept().stream)
            for port in [ZtunnelPort.hbone, 8080] {
                let client = try Stream(family: family, in: scene.network.world)
                try client.connect(to: Endpoint(Network.podAddress(family), port))
                let listener = port == ZtunnelPort.hbone ? scene.ztunnel.hbone : scene.ztunnel.inbound
                try client.exchange(with: listener.accept().stream)
            }
        }
        // By the mark alone, as Istio has it, the same process gets past.
        try await onThread { try node.backend().apply(RedirectionPlan(), in: scene.network.pod) }
        #expect(try scene.connect(mark: Mark.ztunnel))
        #expect(scene.world.hasConnection && !scene.ztunnel.outbound.hasConnection)
    }

    @Test("the seal takes more than NET_RAW, in any place where it could be set")
    func seal() async throws {
        let scene = try await onThread { try Scene(.ebpf, .v4, RedirectionPlan(requiresSeal: true)) }
        let program = try scene.contained(
            """
            import socket
            for kind, protocol in ((socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_RAW, 6)):
                s = socket.socket(socket.AF_INET, kind, protocol)
                try:
                    s.setsockopt(socket.SOL_SOCKET, 70, \(Seal.value))
                    print("sealed")
                except PermissionError:
                    print("refused")
            """)
        #expect(program.output == "refused\nrefused\nrefused\n", "\(program.errors)")
    }

    @Test("a SYN of its own making from a raw socket", arguments: Node.allCases)
    func raw(node: Node) async throws {
        let scene = try await onThread { try Scene(node, .v4, RedirectionPlan(requiresSeal: true)) }
        let program = try scene.contained(
            """
            import socket, struct
            def checksum(data):
                total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
                while total >> 16:
                    total = (total & 0xffff) + (total >> 16)
                return ~total & 0xffff
            source, target = socket.inet_aton("\(Network.podAddress(.v4))"), socket.inet_aton("\(scene.target.address)")
            tcp = struct.pack("!HHIIHHHH", 40001, \(scene.target.port), 7, 0, 0x5002, 1000, 0, 0)
            tcp = tcp[:16] + struct.pack("!H", checksum(source + target + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)
            s.setsockopt(socket.SOL_SOCKET, 36, \(Mark.ztunnel))
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            wire.bind(("eth0", 0))
            wire.settimeout(0.3)
            s.sendto(tcp, ("\(scene.target.address)", 0))
            try:
                while True:
                    frame, place = wire.recvfrom(2048)
                    # An answer of the world's listener: SYN and ACK to the port.
                    if place[2] == 0 and frame[23] == 6 and frame[36:38] == struct.pack("!H", 40001):
                        print("answered")
                        break
            except TimeoutError:
                print("silence")
            """)
        #expect(program.output == "silence\n", "\(program.errors)")
    }

    @Test("questions to name servers too", arguments: Node.allCases, IPAddress.Family.allCases)
    func dns(node: Node, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(node, family, RedirectionPlan(capturesDNS: true, requiresSeal: true))
            let proxy = try DatagramSocket.proxy(family, in: scene.network.pod)
            let server = try DatagramSocket(
                family, at: Network.worldAddress(family), port: 53, in: scene.network.world)
            let target = Endpoint(Network.worldAddress(family), 53)
            let upstream = try DatagramSocket(family, in: scene.network.pod, ztunnel: true)
            try upstream.send(dnsQuestion, to: target)
            try server.send([1], to: server.receive().source)
            #expect(try upstream.receive().bytes == [1])
            let forged = try DatagramSocket(family, in: scene.network.pod, ztunnel: true, sealed: false)
            try forged.send(dnsQuestion, to: target)
            if node.captures { #expect(try proxy.receive().bytes == dnsQuestion) }
            // What was sent later has come, and this has not.
            try upstream.send(dnsQuestion, to: target)
            _ = try server.receive()
            #expect(!server.hasDatagram && !proxy.hasDatagram)
        }
    }

    @Test("what looks for seals is proven and put back, comes with a new interface, and goes", arguments: Node.allCases)
    func drift(node: Node) async throws {
        try await onThread {
            let plan = RedirectionPlan(requiresSeal: true)
            let scene = try Scene(node, .v4, plan)
            let (backend, network) = (try node.backend(), scene.network)
            let program = node == .nftables ? "apus_forged" : "apus_egress"
            try network.pod.run {
                let filter = try #require(try EbpfDriftTests.filters().first { $0.name == program })
                var routes = try RouteSocket()
                try routes.delete(filter)
            }
            #expect(
                try backend.verify(plan, .capturing, in: network.pod)
                    == [.programMissing(interface: "eth0", program: program)])
            try backend.apply(plan, in: network.pod)
            #expect(try backend.verify(plan, .capturing, in: network.pod).isEmpty)
            try network.pod.run {
                var routes = try RouteSocket()
                try routes.createBridge("net1")
            }
            #expect(
                try backend.verify(plan, .capturing, in: network.pod)
                    .contains(.programMissing(interface: "net1", program: program)))
            try backend.apply(plan, in: network.pod)
            #expect(try !backend.verify(RedirectionPlan(), .capturing, in: network.pod).isEmpty)
            try backend.apply(RedirectionPlan(), in: network.pod)
            #expect(try backend.verify(RedirectionPlan(), .capturing, in: network.pod).isEmpty)
            try backend.apply(plan, in: network.pod)
            try backend.remove(in: network.pod)
            #expect(try network.pod.run { try EbpfDriftTests.filters() }.isEmpty)
            #expect(
                try network.pod.run {
                    var routes = try RouteSocket()
                    return try routes.disciplines().filter(\.isAttachmentPoint)
                }.isEmpty)
            #expect(try Judge.ruleset(network.pod).isEmpty)
        }
    }

    @Test("a back end without the means refuses a plan that asks for it")
    func refused() async throws {
        try await onThread {
            let network = try Network()
            let error = #expect(throws: RedirectionError.self) {
                try NftablesBackend().apply(RedirectionPlan(requiresSeal: true), in: network.pod)
            }
            #expect(error?.code == .plan)
            #expect(try Judge.ruleset(network.pod).isEmpty)
        }
    }

    @Test("an agent that goes by the mark sees what an earlier one has put there to look for seals, and takes it away")
    func leftBehind() async throws {
        try await onThread {
            let network = try Network()
            let sealed = RedirectionPlan(requiresSeal: true)
            try RedirectionChoice.make(.nftables).backend.apply(sealed, in: network.pod)
            let byMark = try RedirectionChoice.make(.nftables, tellingSeals: false).backend
            #expect(byMark.sealProblem != nil)
            let plan = RedirectionPlan()
            let drift = try byMark.verify(plan, .capturing, in: network.pod)
            #expect(drift.contains { if case .programUnexpected = $0 { true } else { false } }, "\(drift)")
            try byMark.apply(plan, in: network.pod)
            #expect(try byMark.verify(plan, .capturing, in: network.pod).isEmpty)
            try byMark.remove(in: network.pod)
            #expect(try Judge.ruleset(network.pod).isEmpty)
        }
    }
}
