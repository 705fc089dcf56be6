import ObjectSource

/// What has to be translated again when objects change.
///
/// A pod is made of itself, of its node's labels, and of what lies in its own namespace: services and service entries that
/// select it, policies, the namespace's labels. Slices that name it may lie elsewhere; `Prepared` compares those. Of the
/// root namespace's objects, and of gateways, any pod may be made.
struct ChangeScope {
    /// Whose pods are concerned.
    private(set) var namespaces: Set<String> = []
    /// Of what is no pod, those whose own has to be made anew (``MeshTranslation/Prepared/others``).
    private(set) var others: Set<String> = []
    private(set) var nodes: Set<String> = []
    /// Pods that changed themselves.
    private(set) var pods: Set<ObjectName> = []
    /// What pods are made with, and what is no pod, has to be made anew.
    var concernsOthers: Bool { !others.isEmpty || !nodes.isEmpty }

    /// - Returns: `nil` when everything is concerned.
    init?(from old: ObjectSnapshot, to new: ObjectSnapshot, _ configuration: MeshConfiguration) {
        guard Self.difference(old.gateways, new.gateways).isEmpty,
            Self.difference(old.gatewayClasses, new.gatewayClasses).isEmpty
        else { return nil }
        pods = new.pods.difference(from: old.pods)
        nodes = Self.difference(old.nodes, new.nodes)
        namespaces = Self.difference(old.namespaces, new.namespaces)
        for name in Self.difference(old.authorizationPolicies, new.authorizationPolicies)
            .union(Self.difference(old.peerAuthentications, new.peerAuthentications))
        { namespaces.insert(name.namespace) }
        guard !namespaces.contains(configuration.rootNamespace) else { return nil }
        for name in new.services.difference(from: old.services)
            .union(Self.difference(old.serviceEntries, new.serviceEntries))
        { namespaces.insert(name.namespace) }
        others = namespaces
        for name in Self.difference(old.workloadEntries, new.workloadEntries) { others.insert(name.namespace) }
        for name in new.endpointSlices.difference(from: old.endpointSlices)
        where Self.counts(old.endpointSlices[name], in: old) || Self.counts(new.endpointSlices[name], in: new) {
            others.insert(name.namespace)
        }
        // There a policy lists the accounts of a waypoint's pods.
        if configuration.allowsWaypointsOnly, concernsOthers || !pods.isEmpty { return nil }
    }

    /// Whether anything is made of a slice. Of most there is nothing: they list the pods that their service selects, and
    /// change whenever one of those does.
    private static func counts(_ slice: EndpointSlice?, in objects: ObjectSnapshot) -> Bool {
        guard let slice, let service = EndpointSliceTranslation.service(of: slice, in: objects) else { return false }
        return service.spec.selector.isEmpty || slice.endpoints.contains(where: EndpointSliceTranslation.isNoPod)
    }

    /// The keys whose values differ. Dictionaries that are still the same copy are compared by that.
    private static func difference<Key, Value: Equatable>(_ old: [Key: Value], _ new: [Key: Value]) -> Set<Key> {
        guard old != new else { return [] }
        var keys: Set<Key> = []
        for (key, value) in new where old[key] != value { keys.insert(key) }
        for key in old.keys where new[key] == nil { keys.insert(key) }
        return keys
    }
}

extension ObjectTable {
    /// The names in some namespaces; `nil`: in all.
    func names(in namespaces: Set<String>?) -> [ObjectName] {
        namespaces?.flatMap { names(in: $0) } ?? Array(allNames)
    }
}
