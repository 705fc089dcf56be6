import LinuxNetwork
import ObjectSource
import Redirection

/// What happens to a pod's traffic while it is not certain that it is captured.
extension NodeAgent {
    /// Whether the pod is to be without network rather than without the mesh: where it, its namespace or the node says
    /// so, and where only mutual TLS is accepted anyway.
    func failsClosed(_ pod: ManagedPod) -> Bool {
        guard let object = object(of: pod.record) else { return configuration.failsClosed }
        let namespace = objects.namespaces[object.metadata.namespace]?.metadata
        let words = [object.metadata.annotations, namespace?.annotations ?? [:], namespace?.labels ?? [:]]
        for word in words.compactMap({ $0[MeshLabel.failClosed] }) {
            if let value = CaptureOverrides.boolean(word) { return value }
        }
        return configuration.failsClosed || authenticationModes.isStrictAnywhere(object)
    }

    /// Whether what capture misses is to be dropped, for the moment between damage and repair.
    func hasSecondLine(_ pod: ManagedPod) -> Bool { configuration.holdsSecondLine || failsClosed(pod) }

    /// Keeps the pod off the network if that is wanted while capture is in doubt.
    func closeIfWanted(_ pod: ManagedPod) async {
        guard !pod.isProven, pod.record.phase == .capturing, pod.isBlocked != true, failsClosed(pod) else { return }
        let (backend, namespace) = (backend, pod.namespace)
        do {
            try await pool.run { try backend.block(in: namespace.value) }
            pod.isBlocked = true
            log.error(
                "a pod has no network until its capture is proven",
                metadata: ["pod": "\(pod.name)", "reason": "\(pod.problem ?? "not known")"])
        } catch {
            log.error(
                "a pod could not be kept off the network", metadata: ["pod": "\(pod.name)", "error": "\(error)"])
        }
        updateGauges()
    }

    /// Lets a pod's traffic pass again, once capture is proven or no longer wanted.
    func open(_ pod: ManagedPod) async throws {
        guard pod.isBlocked != false else { return }
        let (backend, namespace) = (backend, pod.namespace)
        try await pool.run { try backend.unblock(in: namespace.value) }
        hasOpened(pod)
    }

    /// Nothing keeps the pod off the network any more.
    func hasOpened(_ pod: ManagedPod) {
        guard pod.isBlocked != false else { return }
        let wasBlocked = pod.isBlocked
        pod.isBlocked = false
        if wasBlocked == true { log.info("a pod has network again", metadata: ["pod": "\(pod.name)"]) }
        updateGauges()
    }

    /// Takes all that is ours out of a pod's namespace.
    func takeAway(_ pod: ManagedPod) async throws {
        let (backend, namespace) = (backend, pod.namespace)
        try await pool.run {
            try backend.remove(in: namespace.value)
            try backend.unblock(in: namespace.value)
        }
        pod.isBlocked = false
    }
}
