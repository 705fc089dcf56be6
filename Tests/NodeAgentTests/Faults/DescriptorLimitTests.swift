import CNI
import Glibc
import Handover
import LinuxNetwork
import TestSupport
import Testing

@testable import NodeAgent

/// The limit of open files is reached while an ADD runs, at every place where it can be.
@Suite("Out of file descriptors", .serialized)
struct DescriptorLimitTests {
    enum Program: CaseIterable, Sendable { case agent, keeper }

    private static func saysWhy(_ reply: CNIReply) -> Bool {
        let text = "\(reply.message) \(reply.details)"
        return text.contains("file descriptor") || text.contains("Too many open files")
    }

    @Test("an ADD says so, leaves nothing, and works when there is room again", arguments: Program.allCases)
    func add(program: Program) async throws {
        let node = try await ProgramNode(pods: 2)
        let pid = program == .agent ? node.agent : node.keeper
        let pod = try FakePod()
        // What agent and keeper make at the first call of all, and keep.
        let other = try FakePod("10.99.0.9")
        #expect(try node.call(.add, 1, other).code == 0)
        #expect(try node.call(.delete, 1, other).code == 0)
        let untouched = try NamespaceCensus(pod)
        let before = try await node.settledCensus()

        var (refusals, room) = (0, 0)
        while true {
            try ProgramNode.limitDescriptors(of: pid, to: try DescriptorCensus.lowestFree(of: pid) + room)
            let reply = try node.call(.add, 0, pod)
            try ProgramNode.limitDescriptors(of: pid, to: 4096)
            if reply.code != 0 {
                refusals += 1
                #expect(Self.saysWhy(reply), "with room for \(room): \(reply)")
                // Without any call of the runtime's.
                try await eventually("nothing is left with room for \(room)") {
                    try NamespaceCensus(pod) == untouched && node.records() == 0
                }
                try await node.holds(before, "nothing is held with room for \(room)")
            }
            try await eventually("STATUS is good") {
                try ProgramNode.Call(node, .init(verb: .status)).reply(milliseconds: 5000).code == 0
            }
            let again = try node.call(.add, 0, pod)
            #expect(again.code == 0, "\(again)")
            #expect(try pod.drift().isEmpty)
            #expect(try ParallelCallTests.listeningPorts(pod) == [15001, 15006, 15008])
            #expect(try node.call(.delete, 0, pod).code == 0)
            try await eventually("nothing is left of the pod") {
                try NamespaceCensus(pod) == untouched && node.records() == 0
            }
            try await node.holds(before, "nothing is held of the pod")
            if reply.code == 0 { break }
            room += 1
        }
        #expect(refusals > 2, "the limit is met in several places")
    }

    @Test("a DEL without room is told so or done; the next one does it")
    func delete() async throws {
        let node = try await ProgramNode(pods: 1)
        let pod = try FakePod()
        let untouched = try NamespaceCensus(pod)
        for room in 0..<4 {
            #expect(try node.call(.add, 0, pod).code == 0)
            try ProgramNode.limitDescriptors(
                of: node.agent, to: try DescriptorCensus.lowestFree(of: node.agent) + room)
            let reply = try node.call(.delete, 0, pod)
            #expect(reply.code == 0 || Self.saysWhy(reply), "\(reply)")
            try ProgramNode.limitDescriptors(of: node.agent, to: 4096)
            if reply.code != 0 { #expect(try node.call(.delete, 0, pod).code == 0) }
            try await eventually("nothing is left with room for \(room)") {
                try NamespaceCensus(pod) == untouched && node.records() == 0
            }
        }
    }
}
