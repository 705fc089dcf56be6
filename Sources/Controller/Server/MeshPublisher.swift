import Discovery
import Foundation
import IstioAPI
import Logging
import Mesh
import ObjectSource
import Synchronization

/// Turns every state of the objects into what is published, and says once what is wrong with it.
final class MeshPublisher: Sendable {
    private struct State {
        var problems: [ObjectProblem] = []
        var warnings: [PolicyWarning] = []
        var clusterWarnings: [ClusterWarning] = []
        var conditions: [ObjectCondition] = []
        /// Pods by name, as published.
        var workloads: [ObjectName: Workload] = [:]
        /// What is no pod, as it was translated in parts.
        var others: [String: Part] = [:]
        var mark: DiscoveryServer.Mark?
        /// Of the objects.
        var version: UInt64 = 0
    }

    /// What was published, for those who tell users of it.
    struct Report: Sendable {
        var objects: ObjectSnapshot
        var conditions: [ObjectCondition]
        var warnings: [PolicyWarning]
    }

    private let observe: @Sendable (Report) -> Void
    private let translation: MeshTranslation
    private let translator: Mutex<MeshTranslator>
    private let server: DiscoveryServer
    private let metrics: ControllerMetrics
    private let logger: Logger
    private let state = Mutex(State())
    private let changes = ChangeSignal()

    init(
        _ translation: MeshTranslation, _ server: DiscoveryServer, _ metrics: ControllerMetrics, _ logger: Logger,
        observe: @escaping @Sendable (Report) -> Void = { _ in }
    ) {
        self.observe = observe
        self.translation = translation
        translator = Mutex(MeshTranslator(translation))
        self.server = server
        self.metrics = metrics
        self.logger = logger
    }

    /// The version of the objects that were published last.
    var version: UInt64 { state.withLock { $0.version } }
    var problems: [ObjectProblem] { state.withLock { $0.problems } }
    var warnings: [PolicyWarning] { state.withLock { $0.warnings } }
    var clusterWarnings: [ClusterWarning] { state.withLock { $0.clusterWarnings } }
    var conditions: [ObjectCondition] { state.withLock { $0.conditions } }

    /// One at a time, by the one task that follows the source.
    func publish(_ objects: ObjectSnapshot, _ remotes: [RemoteCluster] = []) {
        metrics.recomputations.single.increment()
        do {
            switch translator.withLock({ $0.update(to: objects, remotes) }) {
            case .all(let outcome): try publish(outcome)
            case .some(let changes): try publish(changes)
            }
        } catch {
            translator.withLock { $0.forget() }
            logger.error("the mesh cannot be published; the last state stays", metadata: ["reason": "\(error)"])
        }
        report(objects.problems)
        state.withLock { $0.version = objects.version }
        changes.notify()
        let (conditions, warnings) = state.withLock { ($0.conditions, $0.warnings) }
        observe(Report(objects: objects, conditions: conditions, warnings: warnings))
    }

    private func publish(_ outcome: MeshTranslation.Outcome) throws {
        report(outcome.warnings)
        report(outcome.clusterWarnings)
        let mark = try server.publish(outcome.resources)
        var pods: [ObjectName: Workload] = [:]
        for case .workload(let workload) in outcome.resources {
            let name = ObjectName(namespace: workload.namespace, name: workload.name)
            if translation.isPod(workload, name) { pods[name] = workload }
        }
        state.withLock { state in
            state.workloads = pods
            state.others = outcome.others.mapValues { Part($0) }
            state.mark = mark
            state.conditions = outcome.conditions
        }
        count()
    }

    private func publish(_ changes: MeshTranslator.Changes) throws {
        var resources: [MeshResource] = changes.pods.values.compactMap { $0.map { .workload($0) } }
        var removed = [
            TypeURL.address: Set(changes.pods.compactMap { $0.value == nil ? translation.uid(ofPod: $0.key) : nil })
        ]
        var parts: [String: Part] = [:]
        if let others = changes.others {
            report(others.warnings)
            report(others.clusterWarnings)
            parts = others.resources.mapValues { Part($0) }
            resources += others.resources.values.joined()
            let before = state.withLock { $0.others }
            for (name, part) in parts {
                for (type, names) in before[name]?.names ?? [:] {
                    removed[type, default: []].formUnion(names.subtracting(part.names[type] ?? []))
                }
            }
        }
        let mark = try server.publish(resources, removing: removed)
        state.withLock { state in
            for (name, workload) in changes.pods { state.workloads[name] = workload }
            for (name, part) in parts { state.others[name] = part.names.isEmpty ? nil : part }
            if let others = changes.others { state.conditions = others.conditions }
            state.mark = mark
        }
        count()
    }

    /// Some of what is published and no pod.
    private struct Part {
        var names: [String: Set<String>] = [:]
        var (workloads, services, policies) = (0, 0, 0)

        init(_ resources: [MeshResource]) {
            for resource in resources {
                names[resource.typeURL, default: []].insert(resource.name)
                switch resource {
                case .workload: workloads += 1
                case .service: services += 1
                case .policy: policies += 1
                }
            }
        }
    }

    private func count() {
        let (pods, parts) = state.withLock { ($0.workloads.count, $0.others) }
        metrics.resources.with(["workload"]).set(Int64(parts.values.reduce(pods) { $0 + $1.workloads }))
        metrics.resources.with(["service"]).set(Int64(parts.values.reduce(0) { $0 + $1.services }))
        metrics.resources.with(["policy"]).set(Int64(parts.values.reduce(0) { $0 + $1.policies }))
    }

    private func report(_ problems: [ObjectProblem]) {
        let before = state.withLock { state in
            defer { state.problems = problems }
            return Set(state.problems)
        }
        metrics.problems.single.set(Int64(problems.count))
        for problem in problems where !before.contains(problem) {
            logger.error(
                "wrong object; the last good state stays in force",
                metadata: [
                    "file": "\(problem.file)", "line": "\(problem.line)", "field": "\(problem.field)",
                    "problem": "\(problem.message)",
                ])
        }
        for problem in before.subtracting(problems).sorted() {
            logger.info("put right", metadata: ["file": "\(problem.file)", "problem": "\(problem.message)"])
        }
    }

    private func report(_ warnings: [PolicyWarning]) {
        let before = state.withLock { state in
            defer { state.warnings = warnings }
            return Set(state.warnings)
        }
        for effect in PolicyWarning.Effect.allCases {
            metrics.warnings.with([effect.rawValue]).set(Int64(warnings.count { $0.effect == effect }))
        }
        for warning in warnings where !before.contains(warning) {
            // What lets through what somebody meant to refuse is no mere warning.
            logger.log(
                level: warning.effect == .stricter ? .warning : .error, "policy not wholly in force",
                metadata: [
                    "policy": "\(warning.policy)", "effect": "\(warning.effect.rawValue)",
                    "reason": "\(warning.message)",
                ])
        }
    }

    private func report(_ warnings: [ClusterWarning]) {
        let before = state.withLock { state in
            defer { state.clusterWarnings = warnings }
            return Set(state.clusterWarnings)
        }
        for warning in warnings where !before.contains(warning) {
            logger.warning(
                "clusters do not agree on a service",
                metadata: ["service": "\(warning.service)", "reason": "\(warning.message)"])
        }
    }

    /// Waits until this version of the objects, or a later one, is published.
    func waitUntilPublished(_ version: UInt64, timeout: Duration) async -> Bool {
        await changes.wait(timeout: timeout) { self.version >= version }
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
