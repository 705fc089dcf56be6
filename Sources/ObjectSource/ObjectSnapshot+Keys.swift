/// Objects of a kind that is known only when the program runs.
extension ObjectSnapshot {
    public func object(_ key: ObjectKey) -> KubernetesObject? {
        switch key.kind {
        case .namespace: namespaces[key.name.name].map { .namespace($0) }
        case .pod: pods[key.name].map { .pod($0) }
        case .service: services[key.name].map { .service($0) }
        case .serviceAccount: serviceAccounts[key.name].map { .serviceAccount($0) }
        case .endpointSlice: endpointSlices[key.name].map { .endpointSlice($0) }
        case .authorizationPolicy: authorizationPolicies[key.name].map { .authorizationPolicy($0) }
        case .peerAuthentication: peerAuthentications[key.name].map { .peerAuthentication($0) }
        case .node: nodes[key.name.name].map { .node($0) }
        case .gateway: gateways[key.name].map { .gateway($0) }
        case .gatewayClass: gatewayClasses[key.name.name].map { .gatewayClass($0) }
        case .serviceEntry: serviceEntries[key.name].map { .serviceEntry($0) }
        case .workloadEntry: workloadEntries[key.name].map { .workloadEntry($0) }
        }
    }

    /// - Returns: Whether it was there.
    @discardableResult
    public mutating func remove(_ key: ObjectKey) -> Bool {
        switch key.kind {
        case .namespace: namespaces.removeValue(forKey: key.name.name) != nil
        case .pod: pods.removeValue(forKey: key.name) != nil
        case .service: services.removeValue(forKey: key.name) != nil
        case .serviceAccount: serviceAccounts.removeValue(forKey: key.name) != nil
        case .endpointSlice: endpointSlices.removeValue(forKey: key.name) != nil
        case .authorizationPolicy: authorizationPolicies.removeValue(forKey: key.name) != nil
        case .peerAuthentication: peerAuthentications.removeValue(forKey: key.name) != nil
        case .node: nodes.removeValue(forKey: key.name.name) != nil
        case .gateway: gateways.removeValue(forKey: key.name) != nil
        case .gatewayClass: gatewayClasses.removeValue(forKey: key.name.name) != nil
        case .serviceEntry: serviceEntries.removeValue(forKey: key.name) != nil
        case .workloadEntry: workloadEntries.removeValue(forKey: key.name) != nil
        }
    }

    public func names(of kind: ObjectKind) -> [ObjectName] {
        switch kind {
        case .namespace: namespaces.keys.map { ObjectName(namespace: "", name: $0) }
        case .pod: Array(pods.keys)
        case .service: Array(services.keys)
        case .serviceAccount: Array(serviceAccounts.keys)
        case .endpointSlice: Array(endpointSlices.keys)
        case .authorizationPolicy: Array(authorizationPolicies.keys)
        case .peerAuthentication: Array(peerAuthentications.keys)
        case .node: nodes.keys.map { ObjectName(namespace: "", name: $0) }
        case .gateway: Array(gateways.keys)
        case .gatewayClass: gatewayClasses.keys.map { ObjectName(namespace: "", name: $0) }
        case .serviceEntry: Array(serviceEntries.keys)
        case .workloadEntry: Array(workloadEntries.keys)
        }
    }
}
