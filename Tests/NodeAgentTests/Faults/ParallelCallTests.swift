import CNI
import Glibc
import Handover
import LinuxNetwork
import Netlink
import Testing

@testable import NodeAgent

@Suite("Many calls at once", .serialized)
struct ParallelCallTests {
    static func listeningPorts(_ pod: FakePod) throws -> Set<UInt16> {
        try pod.namespace.value.run {
            var diagnostics = try SocketDiagnostics()
            return Set(try diagnostics.tcpSockets(in: [.listening]).map(\.local.port))
        }
    }

    private static func isCaptured(_ pod: FakePod) throws -> Bool {
        try pod.drift().isEmpty && listeningPorts(pod) == [15001, 15006, 15008]
    }

    @Test("200 ADD and DEL, mixed, repeated: each pod is as its last call left it, and nothing is left in the end")
    func twoHundred() async throws {
        let count = 200
        let node = try await ProgramNode(pods: count + 1)
        let pods = try (0...count).map { try FakePod("10.99.\($0 / 250).\($0 % 250 + 1)") }
        // What agent and keeper make at the first call of all, and keep.
        #expect(try node.call(.add, count, pods[count]).code == 0)
        #expect(try node.call(.delete, count, pods[count]).code == 0)
        let untouched = try pods.map(NamespaceCensus.init)
        let before = try await node.settledCensus()

        func expectGood(_ replies: [CNIReply]) {
            let bad = replies.filter { $0.code != 0 }
            #expect(replies.count >= count && bad.isEmpty, "\(bad.prefix(3))")
        }
        expectGood(try await node.all((0..<count).map { (.add, $0, pods[$0]) }))
        #expect(try pods.prefix(count).allSatisfy(Self.isCaptured))
        #expect(try node.records() == count)

        // Half of them end while the others are added again.
        let mixed: [(verb: CNIRequest.Verb, index: Int, pod: FakePod?)] = (0..<count).map {
            ($0 % 2 == 0 ? .delete : .add, $0, pods[$0])
        }
        expectGood(try await node.all(mixed))
        for index in 0..<count {
            if index % 2 == 1 {
                #expect(try Self.isCaptured(pods[index]))
            } else {
                #expect(try NamespaceCensus(pods[index]) == untouched[index])
            }
        }
        #expect(try node.records() == count / 2)

        // Twice each, those that are gone among them, half of them without a namespace.
        expectGood(try await node.all((0..<(2 * count)).map { (.delete, $0 % count, $0 < count ? pods[$0] : nil) }))
        for index in 0..<count { #expect(try NamespaceCensus(pods[index]) == untouched[index]) }
        #expect(try node.records() == 0)
        try await node.holds(before, "agent and keeper hold what they held before")
        let left = try [node.agent, node.keeper].map(DescriptorCensus.namespaces)
        #expect(left.allSatisfy { held in pods.allSatisfy { !held.contains($0.namespace.id.inode) } })
    }

    @Test("GC with half of the attachments gone, and their namespaces with them")
    func garbage() async throws {
        let node = try await ProgramNode(pods: 20)
        var pods: [FakePod?] = try (0..<20).map { try FakePod("10.99.0.\($0 + 1)") }
        for index in 0..<10 { #expect(try node.call(.add, index, pods[index]).code == 0) }
        let before = try await node.settledCensus()
        for index in 10..<20 { #expect(try node.call(.add, index, pods[index]).code == 0) }
        let gone = Set(pods[10...].compactMap { $0?.namespace.id.inode })
        // The runtime has taken the namespaces down; what agent and keeper hold is all that keeps them.
        for index in 10..<20 { pods[index] = nil }

        let valid = (0..<10).map { CNIRequest.Attachment(containerID: "c\($0)", interfaceName: "eth0") }
        for _ in 0..<2 {
            let request = CNIRequest(verb: .gc, networkName: "mesh", validAttachments: valid)
            #expect(try ProgramNode.Call(node, request).reply(milliseconds: 12_000).code == 0)
        }
        #expect(try node.records() == 10)
        for index in 0..<10 {
            let pod = try #require(pods[index])
            #expect(try Self.isCaptured(pod))
            #expect(try node.call(.check, index, pod).code == 0)
        }
        try await node.holds(before, "nothing holds the namespaces any more")
        for process in [node.agent, node.keeper] {
            #expect(try DescriptorCensus.namespaces(of: process).isDisjoint(with: gone))
        }
    }
}
