import Discovery
import Foundation
import Logging
import Mesh
import ObjectSource
import Synchronization

/// Turns every state of the objects into what is published, and says once what is wrong with it.
final class MeshPublisher: Sendable {
    private struct State {
        var problems: [ObjectProblem] = []
        var warnings: [PolicyWarning] = []
        /// Pods by name, as published.
        var workloads: [ObjectName: Workload] = [:]
        var mark: DiscoveryServer.Mark?
    }

    private let translation: MeshTranslation
    private let server: DiscoveryServer
    private let metrics: ControllerMetrics
    private let logger: Logger
    private let state = Mutex(State())
    private let changes = ChangeSignal()

    init(_ translation: MeshTranslation, _ server: DiscoveryServer, _ metrics: ControllerMetrics, _ logger: Logger) {
        self.translation = translation
        self.server = server
        self.metrics = metrics
        self.logger = logger
    }

    var problems: [ObjectProblem] { state.withLock { $0.problems } }
    var warnings: [PolicyWarning] { state.withLock { $0.warnings } }

    /// One at a time, by the one task that follows the source.
    func publish(_ objects: ObjectSnapshot) {
        let outcome = translation.resources(of: objects)
        metrics.recomputations.single.increment()
        do {
            let mark = try server.publish(outcome.resources)
            var counts: [String: Int64] = ["workload": 0, "service": 0, "policy": 0]
            var workloads: [ObjectName: Workload] = [:]
            for resource in outcome.resources {
                switch resource {
                case .workload(let workload):
                    counts["workload", default: 0] += 1
                    workloads[ObjectName(namespace: workload.namespace, name: workload.name)] = workload
                case .service: counts["service", default: 0] += 1
                case .policy: counts["policy", default: 0] += 1
                }
            }
            for (type, count) in counts { metrics.resources.with([type]).set(count) }
            state.withLock { state in
                state.workloads = workloads
                state.mark = mark
            }
        } catch {
            logger.error("the mesh cannot be published; the last state stays", metadata: ["reason": "\(error)"])
        }
        report(objects.problems, outcome.warnings)
        changes.notify()
    }

    private func report(_ problems: [ObjectProblem], _ warnings: [PolicyWarning]) {
        let before = state.withLock { state in
            defer {
                state.problems = problems
                state.warnings = warnings
            }
            return (problems: Set(state.problems), warnings: Set(state.warnings))
        }
        metrics.problems.single.set(Int64(problems.count))
        metrics.warnings.single.set(Int64(warnings.count))
        for problem in problems where !before.problems.contains(problem) {
            logger.error(
                "wrong object; the last good state stays in force",
                metadata: [
                    "file": "\(problem.file)", "line": "\(problem.line)", "field": "\(problem.field)",
                    "problem": "\(problem.message)",
                ])
        }
        for problem in before.problems.subtracting(problems).sorted() {
            logger.info("put right", metadata: ["file": "\(problem.file)", "problem": "\(problem.message)"])
        }
        for warning in warnings where !before.warnings.contains(warning) {
            logger.warning(
                "policy not wholly in force", metadata: ["policy": "\(warning.policy)", "reason": "\(warning.message)"])
        }
    }

    /// Waits until every connected proxy knows a pod as not captured, or not at all.
    ///
    /// - Returns: Empty when all know; else what was still missing when the time was over.
    func waitUntilReleased(_ pod: ObjectName, timeout: Duration) async -> [String] {
        let clock = ContinuousClock()
        let deadline = clock.now + timeout
        let released = await changes.wait(timeout: timeout) {
            self.state.withLock { $0.workloads[pod]?.tunnelProtocol != .hbone }
        }
        guard released else { return ["the report that \(pod) is released"] }
        guard let mark = state.withLock({ $0.mark }) else { return [] }
        return await server.waitUntilAcked(mark, timeout: max(deadline - clock.now, .zero))
    }
}
