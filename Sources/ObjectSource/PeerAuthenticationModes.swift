/// Which PeerAuthentication holds for which pod: the workload's own, else its namespace's, else the mesh's, the oldest of
/// each; without any, plain text is accepted.
public struct PeerAuthenticationModes: Sendable {
    /// In the order in which they count.
    public let objects: [PeerAuthentication]
    private let rootNamespace: String
    /// The mode for all workloads of a namespace; those without a policy of their own have the mesh's.
    private var inherited: [String: PeerAuthentication.Mode] = [:]
    private let mesh: PeerAuthentication.Mode

    public init(_ snapshot: ObjectSnapshot, rootNamespace: String = MeshLabel.rootNamespace) {
        self.rootNamespace = rootNamespace
        // The oldest counts; without a time an object counts as new, and names decide.
        objects = snapshot.peerAuthentications.values.sorted { left, right in
            let (first, second) = (left.metadata.creationTimestamp ?? .max, right.metadata.creationTimestamp ?? .max)
            return (first, left.metadata.objectName) < (second, right.metadata.objectName)
        }
        let wide = objects.filter { $0.selector == nil }
        let root = wide.first { $0.metadata.namespace == rootNamespace }?.mode ?? .unset
        mesh = root == .unset ? .permissive : root
        for policy in wide where policy.metadata.namespace != rootNamespace {
            let namespace = policy.metadata.namespace
            if inherited[namespace] == nil { inherited[namespace] = policy.mode == .unset ? mesh : policy.mode }
        }
    }

    /// The policy made for some workloads, this pod among them.
    public func own(_ workload: ObjectMeta) -> PeerAuthentication? {
        objects.first { object in
            isForWorkloads(object) && object.metadata.namespace == workload.namespace
                && workload.labels.isMatched(by: object.selector ?? [:])
        }
    }

    /// Never ``PeerAuthentication/Mode/unset``.
    public func mode(_ object: PeerAuthentication) -> PeerAuthentication.Mode {
        object.mode == .unset ? inherited(by: object.metadata.namespace) : object.mode
    }

    /// The mode for all ports of a workload that no exception names. Never ``PeerAuthentication/Mode/unset``.
    public func mode(of workload: ObjectMeta) -> PeerAuthentication.Mode {
        own(workload).map(mode) ?? inherited(by: workload.namespace)
    }

    /// Whether any port of the pod takes nothing but mutual TLS.
    public func isStrictAnywhere(_ pod: Pod) -> Bool {
        mode(of: pod.metadata) == .strict || own(pod.metadata)?.portModes.values.contains(.strict) == true
    }

    private func inherited(by namespace: String) -> PeerAuthentication.Mode { inherited[namespace] ?? mesh }

    /// Policies of the root namespace are for the whole mesh or for nobody.
    public func isForWorkloads(_ object: PeerAuthentication) -> Bool {
        object.selector != nil && object.metadata.namespace != rootNamespace
    }
}
