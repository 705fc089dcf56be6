import LinuxNetwork
import Netlink
import ObjectSource
import Redirection

/// Connections that were open when a pod was enrolled: they go on as they were, are told of, and end in time.
extension NodeAgent {
    /// Looks after them from the pod's enrolment until there are none left.
    func watchSpared(_ pod: ManagedPod) {
        guard pod.sparedWatch == nil, pod.record.phase == .capturing else { return }
        let (id, generation) = (pod.record.containerID, pod.generation)
        let since = ContinuousClock.now
        let pause = configuration.sparedPoll
        pod.sparedWatch = Task {
            // Twice at least: what was half open at first shows at the second look.
            var isFirst = true
            while await self.lookAfterSpared(id, generation, since: since) || isFirst, !Task.isCancelled {
                isFirst = false
                // Ends early when the pod or the agent ends; the loop sees it.
                try? await Task.sleep(for: pause)
            }
            self.sparedAreOver(id, generation)
        }
    }

    private func sparedAreOver(_ id: String, _ generation: Int) {
        guard let pod = pods[id], pod.generation == generation else { return }
        pod.sparedWatch = nil
    }

    /// - Returns: Whether there is still something to look after.
    private func lookAfterSpared(_ id: String, _ generation: Int, since: ContinuousClock.Instant) async -> Bool {
        func current() -> ManagedPod? {
            guard let pod = pods[id], pod.generation == generation, pod.record.phase == .capturing else { return nil }
            return pod
        }
        guard let pod = current() else { return false }
        let (backend, namespace, reason) = (backend, pod.namespace, reasonToCut(pod, since: since))
        do {
            let left = try await pool.run { () -> (cut: Int, spared: [SocketEntry]) in
                let found = try backend.sparedConnections(in: namespace.value)
                guard reason != nil, !found.isEmpty else { return (0, found) }
                try backend.cut(found, in: namespace.value)
                return (found.count, try backend.sparedConnections(in: namespace.value))
            }
            guard current() != nil else { return false }
            if let reason, left.cut > 0 {
                metrics.sparedCut.with([reason.rawValue]).add(UInt64(left.cut))
                log.info(
                    "connections that went past the mesh are cut",
                    metadata: ["pod": "\(pod.name)", "connections": "\(left.cut)", "reason": "\(reason.rawValue)"])
            }
            pod.spared = SparedList(left.spared)
        } catch {
            log.warning(
                "connections that go past the mesh cannot be looked after",
                metadata: ["pod": "\(pod.name)", "error": "\(error)"])
            return true
        }
        await report(pod)
        return pod.spared.count > 0
    }

    private enum ReasonToCut: String { case strict, deadline }

    private func reasonToCut(_ pod: ManagedPod, since: ContinuousClock.Instant) -> ReasonToCut? {
        if let object = object(of: pod.record), authenticationModes.isStrictAnywhere(object) {
            return .strict
        }
        guard let deadline = configuration.sparedDeadline else { return nil }
        return ContinuousClock.now - since >= deadline ? .deadline : nil
    }
}

/// The spared connections of a pod, as its status tells of them.
struct SparedList: Equatable {
    /// More are counted and not named.
    private static let named = 8

    private(set) var count = 0
    private(set) var text: String?

    init() {}

    init(_ connections: [SocketEntry]) {
        count = connections.count
        guard count > 0 else { return }
        let names = connections.map { "\($0.local)-\($0.remote)" }.sorted()
        let more = names.count > Self.named ? " and \(names.count - Self.named) more" : ""
        text = "\(count): " + names.prefix(Self.named).joined(separator: ", ") + more
    }
}
