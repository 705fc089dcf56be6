import Mesh
public import ObjectSource

extension MeshConfiguration {
    /// Takes what Istio's mesh configuration says in place of what is set. What it does not say stays.
    ///
    /// - Throws: ``ControllerError`` `meshConfig` for a trust domain that is none.
    public mutating func take(_ config: IstioMeshConfig) throws(ControllerError) {
        for (field, names) in [
            ("trustDomain", [config.trustDomain].compactMap { $0 }), ("trustDomainAliases", config.trustDomainAliases),
        ] {
            for name in names where !TrustDomains.isValid(name) {
                throw ControllerError(
                    .meshConfig, "the mesh configuration cannot be used",
                    cause: "\(field): \(name.debugDescription) is no trust domain",
                    hint: "lower-case letters, digits, dots, dashes and underscores are allowed")
            }
        }
        if let trustDomain = config.trustDomain { self.trustDomain = trustDomain }
        if !config.trustDomainAliases.isEmpty { trustDomainAliases = config.trustDomainAliases }
        if let root = config.rootNamespace { rootNamespace = root }
        if !config.discoverySelectors.isEmpty { discoverySelectors = config.discoverySelectors }
        if !config.serviceScopes.isEmpty { serviceScopes = config.serviceScopes }
        if !config.visibilityPolicies.isEmpty || config.defaultVisibility != nil {
            entryVisibility = config.visibilityPolicies.map {
                VisibilityRule(namespaces: LabelSelector(all: $0.namespaces), visibility: .init($0.visibility))
            }
            if let rest = config.defaultVisibility {
                entryVisibility.append(VisibilityRule(namespaces: LabelSelector(), visibility: .init(rest)))
            }
        }
    }

    /// Whether other clusters of the mesh share a service.
    func isGlobal(_ service: ObjectMeta, _ namespaces: [String: Namespace]) -> Bool {
        let namespace = namespaces[service.namespace]?.metadata.labels ?? [:]
        let found = serviceScopes.first { $0.namespaces.matches(namespace) && $0.services.matches(service.labels) }
        return found?.scope == .global
    }
}

extension MeshConfiguration.EntryVisibility {
    fileprivate init(_ written: IstioMeshConfig.EntryVisibility) {
        switch written {
        case .everywhere, .unspecified: self = .everywhere
        case .namespace: self = .namespace
        case .none: self = .none
        }
    }
}

extension LabelSelector {
    /// What all of the selectors match.
    fileprivate init(all selectors: [LabelSelector]) {
        self.init(
            requirements: selectors.flatMap { selector in
                selector.labels.sorted { $0.key < $1.key }.map { Requirement($0.key, .in, [$0.value]) }
                    + selector.requirements
            })
    }
}
