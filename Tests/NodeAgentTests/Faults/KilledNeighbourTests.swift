import Glibc
import LinuxNetwork
import ObjectSource
import TestSupport
import Testing

@testable import NodeAgent

/// The keeper or ztunnel is killed before any one step of what the agent does.
@Suite("Keeper and ztunnel killed at every step", .serialized)
struct KilledNeighbourTests {
    enum Act: CaseIterable, Sendable { case add, enrolment, repair, unenrolment, delete }

    private static func prepare(_ act: Act, _ node: LiveNode, _ pod: FakePod) async throws {
        node.source.setNamespace("shop", ambient: act != .enrolment)
        node.source.setPod("web", uid: "u-1")
        guard act != .add else { return }
        try #require(await node.call(.add, "c1", pod).code == 0)
        if act != .enrolment { try await eventually("enrolled") { node.annotator["web"] == "enabled" } }
        try await eventually("quiet") { await node.agent.isQuiet }
    }

    private static func perform(_ act: Act, _ node: LiveNode, _ pod: FakePod) async throws {
        switch act {
        case .add:
            // The runtime calls again what has failed.
            try await eventually("the ADD succeeds", within: .seconds(30)) {
                await node.call(.add, "c1", pod).code == 0
            }
        case .enrolment: node.source.setNamespace("shop", ambient: true)
        case .repair: try pod.harm()
        case .unenrolment: node.source.setNamespace("shop", ambient: false)
        case .delete: #expect(await node.call(.delete, "c1", pod).code == 0)
        }
    }

    @Test(
        "all is as it should be, and nothing is left", arguments: [NodePrograms.keeperName, NodePrograms.ztunnelName],
        Act.allCases)
    func atEveryStep(victim: String, act: Act) async throws {
        try await Self.atEveryStep(victim, act, .nftables)
    }

    @Test(
        "capture by eBPF too", arguments: [NodePrograms.keeperName, NodePrograms.ztunnelName], [Act.enrolment, .repair])
    func byPrograms(victim: String, act: Act) async throws { try await Self.atEveryStep(victim, act, .ebpf) }

    private static func atEveryStep(_ victim: String, _ act: Act, _ means: Means) async throws {
        var step = 0
        while true {
            let node = try await LiveNode(ztunnel: true, backend: means.backend())
            let pod = try FakePod(means: means)
            let untouched = try NamespaceCensus(pod)
            try await Self.prepare(act, node, pod)
            let before = node.pid(of: victim)
            let supervisor = node.supervisor
            node.executioner.arm(after: step) {
                if let pid = supervisor.pid(of: victim) { kill(pid, SIGKILL) }
            }
            try await Self.perform(act, node, pod)
            let words = "\(act), with \(victim) killed before step \(step)"
            switch act {
            case .add, .enrolment, .repair:
                try await eventually("whole: \(words)", within: .seconds(30)) {
                    let isWhole = try await node.isWhole(pod)
                    return isWhole && node.annotator["web"] == "enabled"
                }
            case .unenrolment, .delete:
                try await eventually("gone: \(words)", within: .seconds(30)) {
                    try NamespaceCensus(pod) == untouched && node.annotator["web"] == nil
                }
            }
            let survived = !node.executioner.disarm()
            if !survived {
                try await eventually("another runs: \(words)", within: .seconds(30)) {
                    node.pid(of: victim).map { $0 != before } ?? false
                }
            }
            #expect(await node.call(.delete, "c1", pod).code == 0)
            try await eventually("nothing is left: \(words)", within: .seconds(30)) {
                // Away for a moment, as the test has it.
                guard let kept = try? await node.client.list() else { return false }
                return try kept.isEmpty && NamespaceCensus(pod) == untouched
            }
            try await node.stop()
            if survived { break }
            step += 1
        }
        #expect(step > 1, "the agent takes steps, and \(victim) was killed before each")
    }
}
