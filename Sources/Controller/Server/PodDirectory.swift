import Discovery
import Mesh
import ObjectSource
import Synchronization

/// Says which identities have a pod on which node.
final class PodDirectory: Sendable {
    /// Requests that may wait for a report to arrive; more than that are answered as things stand.
    private static let maximumWaiting = 256

    private let current: Mutex<ObjectSnapshot>
    private let changes = ChangeSignal()
    private let configuration: MeshConfiguration
    private let patience: Duration

    /// - Parameter patience: How long a pod may be unknown that a node asks for already. Its report goes through a
    ///   file and a watch, the node's request does not.
    init(_ snapshot: ObjectSnapshot, _ configuration: MeshConfiguration, patience: Duration) {
        current = Mutex(snapshot)
        self.configuration = configuration
        self.patience = patience
    }

    func update(_ snapshot: ObjectSnapshot) {
        current.withLock { $0 = snapshot }
        changes.notify()
    }

    func hasPod(of identity: SPIFFEIdentity, onNode node: String) async -> Bool {
        guard identity.trustDomain == configuration.trustDomain else { return false }
        if isThere(identity, node) { return true }
        guard changes.waiterCount < Self.maximumWaiting else { return false }
        return await changes.wait(timeout: patience) { self.isThere(identity, node) }
    }

    private func isThere(_ identity: SPIFFEIdentity, _ node: String) -> Bool {
        current.withLock { $0.pods }.contains { name, pod in
            name.namespace == identity.namespace && pod.spec.serviceAccountName == identity.serviceAccount
                && pod.spec.nodeName == node && pod.status.phase != .failed
        }
    }
}
