import Mesh
import ObjectSource

/// PeerAuthentication as deny policies: strict means to deny whoever has no identity.
///
/// Any deny policy that matches denies, so what one policy exempts another must not deny: a workload refers to the
/// policy for all of its ports or to one made for its exceptions, never to both.
struct PeerAuthenticationTranslation {
    static let staticStrict = "istio_converted_static_strict"
    static let convertedPrefix = "converted_peer_authentication_"

    private let configuration: MeshConfiguration
    private let objects: [PeerAuthentication]
    /// The mode for all workloads of a namespace, by namespace; those without a policy of their own have the mesh's.
    private var inherited: [String: PeerAuthentication.Mode] = [:]
    private let meshMode: PeerAuthentication.Mode

    init(_ configuration: MeshConfiguration, _ snapshot: ObjectSnapshot) {
        self.configuration = configuration
        // The oldest counts; without a time an object counts as new, and names decide.
        objects = snapshot.peerAuthentications.values.sorted { left, right in
            let (first, second) = (left.metadata.creationTimestamp ?? .max, right.metadata.creationTimestamp ?? .max)
            return (first, left.metadata.objectName) < (second, right.metadata.objectName)
        }
        let wide = objects.filter { $0.selector == nil }
        let mesh = wide.first { $0.metadata.namespace == configuration.rootNamespace }?.mode ?? .unset
        meshMode = mesh == .unset ? .permissive : mesh
        for policy in wide where policy.metadata.namespace != configuration.rootNamespace {
            let namespace = policy.metadata.namespace
            if inherited[namespace] == nil { inherited[namespace] = policy.mode == .unset ? meshMode : policy.mode }
        }
    }

    // MARK: What is published

    var policies: [Mesh.AuthorizationPolicy] {
        guard !objects.isEmpty else { return [] }
        let all = Mesh.AuthorizationPolicy(
            name: Self.staticStrict, namespace: configuration.rootNamespace, scope: .workloadSelector, action: .deny,
            rules: [.init(clauses: [Self.withoutIdentity])])
        return [all] + objects.compactMap(converted)
    }

    private static let withoutIdentity = Mesh.AuthorizationPolicy.Clause(matches: [.init(notPrincipals: [.presence])])

    /// The policy for one that has exceptions by port.
    private func converted(_ object: PeerAuthentication) -> Mesh.AuthorizationPolicy? {
        guard let exceptions = exceptions(object) else { return nil }
        let rules: [Mesh.AuthorizationPolicy.Rule]
        switch exceptions {
        case .permissive(let ports):
            rules = [
                .init(clauses: [
                    Self.withoutIdentity, .init(matches: [.init(notDestinationPorts: ports.map(UInt32.init))]),
                ])
            ]
        case .strict(let ports):
            rules = ports.map { port in
                .init(clauses: [Self.withoutIdentity, .init(matches: [.init(destinationPorts: [UInt32(port)])])])
            }
        }
        return Mesh.AuthorizationPolicy(
            name: Self.convertedPrefix + object.metadata.name, namespace: object.metadata.namespace,
            scope: .workloadSelector, action: .deny, rules: rules)
    }

    private enum Exceptions {
        /// Ports without the strictness of the others.
        case permissive([UInt16])
        /// The only strict ports.
        case strict([UInt16])
    }

    /// `nil` when all ports are as the workload is.
    private func exceptions(_ object: PeerAuthentication) -> Exceptions? {
        guard isForWorkloads(object) else { return nil }
        let isStrict = mode(object) == .strict
        let ports = object.portModes.filter { _, mode in mode != .unset && (mode == .strict) != isStrict }.keys.sorted()
        guard !ports.isEmpty else { return nil }
        return isStrict ? .permissive(ports) : .strict(ports)
    }

    // MARK: What workloads refer to

    func policies(for pod: Pod) -> [String] {
        let own = objects.first { object in
            isForWorkloads(object) && object.metadata.namespace == pod.metadata.namespace
                && pod.metadata.labels.isMatched(by: object.selector ?? [:])
        }
        if let own, exceptions(own) != nil {
            return ["\(own.metadata.namespace)/\(Self.convertedPrefix)\(own.metadata.name)"]
        }
        let effective = own.map(mode) ?? inheritedMode(pod.metadata.namespace)
        return effective == .strict ? ["\(configuration.rootNamespace)/\(Self.staticStrict)"] : []
    }

    private func inheritedMode(_ namespace: String) -> PeerAuthentication.Mode { inherited[namespace] ?? meshMode }

    private func mode(_ object: PeerAuthentication) -> PeerAuthentication.Mode {
        object.mode == .unset ? inheritedMode(object.metadata.namespace) : object.mode
    }

    /// Policies of the root namespace are for the whole mesh or for nobody.
    private func isForWorkloads(_ object: PeerAuthentication) -> Bool {
        object.selector != nil && object.metadata.namespace != configuration.rootNamespace
    }
}
