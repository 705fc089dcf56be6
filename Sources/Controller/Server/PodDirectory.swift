import Discovery
import Mesh
import ObjectSource
import Synchronization

/// Says which identities have a pod on which node, and which node a proxy speaks for.
final class PodDirectory: Sendable {
    /// Requests that may wait for a report to arrive; more than that are answered as things stand.
    private static let maximumWaiting = 256

    private let current: Mutex<PodIndex>
    private let changes = ChangeSignal()
    private let configuration: MeshConfiguration
    private let nodeAccounts: Set<ObjectName>
    private let patience: Duration

    /// - Parameters:
    ///   - nodeAccounts: Service accounts whose pods speak for the node they run on.
    ///   - patience: How long a pod may be unknown that a node asks for already. Its report goes through a file or a
    ///     watch, the node's request does not.
    init(
        _ snapshot: ObjectSnapshot, _ configuration: MeshConfiguration, nodeAccounts: Set<ObjectName>,
        patience: Duration
    ) {
        current = Mutex(PodIndex(snapshot.pods))
        self.configuration = configuration
        self.nodeAccounts = nodeAccounts
        self.patience = patience
    }

    func update(_ snapshot: ObjectSnapshot) {
        current.withLock { $0.update(snapshot.pods) }
        changes.notify()
    }

    func hasPod(of identity: SPIFFEIdentity, onNode node: String) async -> Bool {
        guard identity.trustDomain == configuration.trustDomain else { return false }
        let place = PodIndex.Place(
            node: node, account: ObjectName(namespace: identity.namespace, name: identity.serviceAccount))
        return await eventually { $0.hasPod(at: place) ? true : nil } ?? false
    }

    /// The node that a caller may ask for identities on.
    ///
    /// - Returns: `nil` for who speaks for none: another account than a node proxy's, or a token that is not bound to a pod
    ///   there is, of that account, on the node that the token says.
    func node(of caller: Caller) async -> String? {
        if caller.isNodeItself { return caller.node.isEmpty ? nil : caller.node }
        guard nodeAccounts.contains(caller.account) else { return nil }
        return await eventually { index in
            guard let pod = index.pod(of: caller), !pod.spec.nodeName.isEmpty else { return nil }
            return caller.node.isEmpty || caller.node == pod.spec.nodeName ? pod.spec.nodeName : nil
        }
    }

    /// Whether the pod that a caller's token is bound to is there; a token that is bound to none says nothing of pods.
    func isThere(_ caller: Caller) async -> Bool {
        guard caller.pod != nil else { return true }
        return await eventually { $0.pod(of: caller) } != nil
    }

    private func eventually<Value: Sendable>(
        _ find: @escaping @Sendable (inout PodIndex) -> Value?
    ) async -> Value? {
        if let value = current.withLock({ find(&$0) }) { return value }
        guard changes.waiterCount < Self.maximumWaiting else { return nil }
        _ = await changes.wait(timeout: patience) { self.current.withLock { find(&$0) } != nil }
        return current.withLock { find(&$0) }
    }
}

/// The pods, and for each account on each node one of its pods. The latter is made when somebody asks for what it does not
/// have: pods change all the time, and a certificate is asked for now and then. A value.
struct PodIndex: Sendable {
    struct Place: Hashable, Sendable {
        var node: String
        var account: ObjectName
    }

    private var pods: PodTable
    private var examples: [Place: ObjectName] = [:]
    private var isFresh = false

    init(_ pods: PodTable) { self.pods = pods }

    mutating func update(_ pods: PodTable) {
        self.pods = pods
        isFresh = false
    }

    mutating func hasPod(at place: Place) -> Bool {
        // An example of earlier counts when it still is one.
        if let example = examples[place], let pod = pods[example], Self.place(of: pod) == place { return true }
        guard !isFresh else { return false }
        examples = [:]
        for (name, pod) in pods {
            if let place = Self.place(of: pod) { examples[place] = name }
        }
        isFresh = true
        return examples[place] != nil
    }

    private static func place(of pod: Pod) -> Place? {
        guard !pod.spec.nodeName.isEmpty, pod.status.phase != .failed else { return nil }
        return Place(
            node: pod.spec.nodeName,
            account: ObjectName(namespace: pod.metadata.namespace, name: pod.spec.serviceAccountName))
    }

    /// The very pod that a caller's token is bound to, while it has not ended.
    func pod(of caller: Caller) -> Pod? {
        guard let reference = caller.pod, !reference.uid.isEmpty, let pod = pods[reference.name],
            pod.metadata.uid == reference.uid, pod.spec.serviceAccountName == caller.serviceAccount,
            pod.metadata.namespace == caller.namespace, pod.status.phase?.isTerminal != true
        else { return nil }
        return pod
    }
}
