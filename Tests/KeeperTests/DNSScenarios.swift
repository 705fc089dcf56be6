import Addressing
import CLinux
import Glibc
import Handover
import LinuxNetwork
import Testing

@Suite("The keeper's sockets for DNS", .serialized)
struct DNSScenarios {
    private let servers = PodResolver(servers: ["10.96.0.10"], searchDomains: ["ns.svc.cluster.local"])

    @Test func theyAreOnLoopbackOfBothFamiliesWithAStockOfTheirOwn() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        var description = agent.description(pod)
        description.dns = true
        description.resolver = servers
        #expect(try agent.ask(.addPod(description), [pod.namespace.raw]).error == nil)
        #expect(try pod.listeningPorts().filter { $0 != 15053 } == [15001, 15006, 15008])

        let ztunnel = try keeper.ztunnel()
        let handed = try ztunnel.takeAddition()
        try ztunnel.answer()
        #expect(
            handed.kinds == [
                .listenerOutbound, .listenerInboundPlaintext, .listenerHBONE, .listenerDNSUDP, .listenerDNSTCP,
                .listenerDNSUDP, .listenerDNSTCP, .stock, .stockDatagram,
            ])
        let udp = try handed.descriptor(.listenerDNSUDP)
        #expect(Sockets.localEndpoint(udp) == Endpoint(.loopbackV4, 15053))
        #expect(integerOption(udp, SOL_SOCKET, SO_TYPE) == CInt(SOCK_DGRAM.rawValue))
        let tcp = try handed.descriptor(.listenerDNSTCP)
        #expect(Sockets.localEndpoint(tcp) == Endpoint(.loopbackV4, 15053) && Sockets.isListening(tcp))

        var buffer = [UInt8](repeating: 0, count: 64)
        let packet = try receivePacket(try handed.descriptor(.stockDatagram), &buffer)
        defer { for socket in packet.descriptors { close(socket) } }
        let socket = try #require(packet.descriptors.first)
        #expect(integerOption(socket, SOL_SOCKET, SO_TYPE) == CInt(SOCK_DGRAM.rawValue))
        #expect(integerOption(socket, SOL_SOCKET, SO_MARK) == 0x539)

        try ztunnel.expect(.snapshotSent)
        try ztunnel.answer()
        try ztunnel.expect(.configure(uid: "a", resolver: servers))
    }

    @Test func newsOfTheNameServersIsTellingAndNotHandingOverAgain() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        var description = agent.description(pod)
        description.dns = true
        description.resolver = servers
        _ = try agent.ask(.addPod(description), [pod.namespace.raw])
        let ztunnel = try keeper.ztunnel()
        _ = try ztunnel.takeAddition()
        try ztunnel.answer()
        try ztunnel.expect(.snapshotSent)
        try ztunnel.answer()
        try ztunnel.expect(.configure(uid: "a", resolver: servers))
        try ztunnel.answer()
        description.resolver = PodResolver(servers: ["10.96.0.11"])
        _ = try agent.ask(.addPod(description), [pod.namespace.raw])
        try ztunnel.expect(.configure(uid: "a", resolver: PodResolver(servers: ["10.96.0.11"])))
        try ztunnel.answer()

        // Without DNS the listeners go, and the pod is handed over without them.
        description.dns = false
        _ = try agent.ask(.addPod(description), [pod.namespace.raw])
        let again = try ztunnel.takeAddition()
        #expect(again.kinds == [.listenerOutbound, .listenerInboundPlaintext, .listenerHBONE, .stock])
        try ztunnel.answer()
        #expect(try !pod.listeningPorts().contains(15053))
    }
}
