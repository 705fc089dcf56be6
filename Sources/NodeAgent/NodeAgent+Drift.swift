import LinuxNetwork
import Netlink
import Redirection

/// Hearing of changes in pods' namespaces, so that drift is repaired at once and not with the next round.
extension NodeAgent {
    /// Has the kernel tell of changes in a pod's namespace. Without it the pod is looked at on the timer alone.
    func listen(to pod: ManagedPod) async {
        guard driftWatch != nil else { return }
        let namespace = pod.namespace
        let node = nodeNetwork
        do {
            let number = try await pool.run {
                // Numbers are those that the namespace has which listens.
                var routes = try node.within { try RouteSocket() }
                return try routes.number(of: namespace.value)
            }
            // A number of a namespace that is gone may be given again.
            namespaceNumbers[number] = pod.record.containerID
        } catch {
            log.warning(
                "changes in a pod's namespace are not heard of; it is looked at now and then",
                metadata: ["pod": "\(pod.name)", "error": "\(error)"])
        }
    }

    func followChanges() async {
        guard let driftWatch else { return }
        for await _ in driftWatch.signals {
            let places = driftWatch.take()
            changed(places)
            // The node's own rules for probes.
            if !places.isDisjoint(with: [.own, .anywhere]) { suspectHost() }
        }
    }

    /// Looks at the node's own rules soon; as with pods, many messages cost one look.
    private func suspectHost() {
        guard hostSuspicion == nil else { return }
        let pause = configuration.driftPause
        hostSuspicion = Task {
            // Cut short when the agent ends, which is seen below.
            try? await Task.sleep(for: pause)
            self.hostSuspicion = nil
            if !Task.isCancelled { await self.reassertHostRules() }
        }
    }

    private func changed(_ places: Set<NamespaceChanges.Place>) {
        if places.contains(.anywhere) {
            for pod in pods.values { suspect(pod) }
            return
        }
        for case .namespace(let number) in places {
            guard let id = namespaceNumbers[number], let pod = pods[id] else { continue }
            suspect(pod)
        }
    }

    /// Looks at a pod soon. A moment is waited so that the many messages of one change, the agent's own among them, cost
    /// one look; and so that somebody who goes on changing things keeps the agent busy, but not more than that.
    private func suspect(_ pod: ManagedPod) {
        guard pod.isVerifiable, pod.suspicion == nil else { return }
        let id = pod.record.containerID
        let pause = configuration.driftPause
        pod.suspicion = Task {
            // Cut short when the pod or the agent ends; both are seen below.
            try? await Task.sleep(for: pause)
            guard !Task.isCancelled, let pod = self.pods[id] else { return }
            pod.suspicion = nil
            self.scheduleReconciliation(pod)
        }
    }

    /// Whether nothing is under way or due. For tests.
    var isQuiet: Bool { pods.values.allSatisfy { $0.suspicion == nil && $0.reconciliation == nil } }

    /// What differs between a pod's namespace and what should hold in it.
    func drift(of pod: ManagedPod) async throws -> [Drift] {
        let (backend, record, namespace) = (backend, pod.record, pod.namespace)
        return try await pool.run {
            guard record.phase == .capturing else {
                return try backend.verify(record.plan, .leaving, in: namespace.value)
            }
            return try backend.verify(record.plan, .capturing, in: namespace.value)
                + backend.missingListeners(record.plan, in: namespace.value)
        }
    }
}
