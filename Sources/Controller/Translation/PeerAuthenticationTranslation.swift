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
    private let modes: PeerAuthenticationModes

    init(_ configuration: MeshConfiguration, _ snapshot: ObjectSnapshot) {
        self.configuration = configuration
        modes = PeerAuthenticationModes(snapshot, rootNamespace: configuration.rootNamespace)
    }

    // MARK: What is published

    var policies: [Mesh.AuthorizationPolicy] {
        guard !modes.objects.isEmpty else { return [] }
        let all = Mesh.AuthorizationPolicy(
            name: Self.staticStrict, namespace: configuration.rootNamespace, scope: .workloadSelector, action: .deny,
            rules: [.init(clauses: [Self.withoutIdentity])])
        return [all] + modes.objects.compactMap(converted)
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
        guard modes.isForWorkloads(object) else { return nil }
        let isStrict = modes.mode(object) == .strict
        let ports = object.portModes.filter { _, mode in mode != .unset && (mode == .strict) != isStrict }.keys.sorted()
        guard !ports.isEmpty else { return nil }
        return isStrict ? .permissive(ports) : .strict(ports)
    }

    // MARK: What workloads refer to

    func policies(for workload: ObjectMeta) -> [String] {
        let own = modes.own(workload)
        if let own, exceptions(own) != nil {
            return ["\(own.metadata.namespace)/\(Self.convertedPrefix)\(own.metadata.name)"]
        }
        let isStrict = modes.mode(of: workload) == .strict
        return isStrict ? ["\(configuration.rootNamespace)/\(Self.staticStrict)"] : []
    }
}
