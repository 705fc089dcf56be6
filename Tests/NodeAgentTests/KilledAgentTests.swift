import LinuxNetwork
import Netlink
import ObjectSource
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

/// An agent that is killed before any one step of what it does; the next one ends in the right state.
@Suite("Killed at every step", .serialized)
struct KilledAgentTests {
    /// What the agent is at when it dies.
    enum Act: CaseIterable, Sendable { case add, enrolment, repair, unenrolment, delete }

    private static func hasGuard(_ pod: FakePod) throws -> Bool {
        try pod.namespace.value.run {
            var nftables = try NftablesSocket()
            return try nftables.tables().contains { $0.name == "apus-guard" }
        }
    }

    /// Gets everything ready for the act.
    private static func prepare(_ act: Act, _ fixture: AgentFixture, _ pod: FakePod) async throws {
        fixture.source.setNamespace("shop", ambient: act != .enrolment)
        fixture.source.setPod("web", uid: "u-1")
        guard act != .add else { return }
        try #require(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        if act != .enrolment {
            try await eventually("enrolled") { fixture.annotator["web"] == "enabled" }
        }
        try await eventually("quiet") { await fixture.agent.isQuiet }
    }

    private static func perform(_ act: Act, _ fixture: AgentFixture, _ pod: FakePod) async throws {
        switch act {
        case .add: _ = await fixture.call(.add, "c1", pod, uid: "u-1")
        case .enrolment: fixture.source.setNamespace("shop", ambient: true)
        case .repair: try pod.harm()
        case .unenrolment: fixture.source.setNamespace("shop", ambient: false)
        case .delete: _ = await fixture.call(.delete, "c1", pod, uid: "u-1")
        }
    }

    @Test("the next agent ends in the right state", arguments: Act.allCases, Means.allCases)
    func atEveryStep(act: Act, means: Means) async throws {
        var step = 0
        while true {
            let life = AgentLife()
            let first = try await AgentFixture(life: life, means: means) { $0.failsClosed = true }
            let pod = try FakePod(means: means)
            try await Self.prepare(act, first, pod)
            life.end(after: step)
            try await Self.perform(act, first, pod)
            // Either it comes to its end, or it dies on the way.
            try await eventually("the act is over") {
                if life.isOver { return true }
                let isDone = try await Self.isDone(act, first, pod)
                return await first.agent.isQuiet && isDone
            }
            let survived = !life.isOver
            try await first.stop()

            let second = try await AgentFixture(
                folder: first.folder, source: first.source, keeperPods: first.keeper, means: means)
            // The runtime calls again what has failed, and it has failed when the agent did not live to answer.
            if act == .add { try #require(await second.call(.add, "c1", pod, uid: "u-1").code == 0) }
            if act == .delete { _ = await second.call(.delete, "c1", pod, uid: "u-1") }
            try await eventually("all is well after a death before step \(step) of \(act)") {
                try await Self.isDone(act, second, pod)
            }
            try await second.stop()
            if survived { break }
            step += 1
        }
        #expect(step > 2, "the agent takes steps, and was killed before each")
    }

    /// Whether all is as the act was to leave it.
    private static func isDone(_ act: Act, _ fixture: AgentFixture, _ pod: FakePod) async throws -> Bool {
        let name = ObjectName(namespace: "shop", name: "web")
        let reported = fixture.source.snapshot().pods[name]?.metadata.annotations[MeshLabel.redirection]
        switch act {
        case .add, .enrolment, .repair:
            guard reported == "enabled", fixture.keeper.pods["u-1"] != nil else { return false }
            return try pod.hasCapture() && pod.drift().isEmpty && !hasGuard(pod) && fixture.records == ["c1"]
        case .unenrolment:
            guard reported == nil, fixture.keeper.pods.isEmpty else { return false }
            return try !pod.hasCapture() && !hasGuard(pod) && fixture.records == ["c1"]
        case .delete:
            guard fixture.keeper.pods.isEmpty else { return false }
            return try !pod.hasCapture() && !hasGuard(pod) && fixture.records.isEmpty
        }
    }
}
