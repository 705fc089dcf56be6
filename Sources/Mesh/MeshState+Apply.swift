import Addressing
import HashTreeCollections

extension MeshState {
    /// Applies the updates of one discovery message: every removal first, then the rest in order.
    ///
    /// A resource that says what is known already changes nothing and is not reported.
    @discardableResult
    public mutating func apply(_ updates: some Collection<MeshUpdate>) -> MeshChange {
        var change = MeshChange()
        reserve(updates.count, &change)
        apply(updates, &change)
        return change
    }

    /// Applies several messages, one after the other, and says what they changed together.
    @discardableResult
    public mutating func apply(messages: some Collection<[MeshUpdate]>) -> MeshChange {
        var change = MeshChange()
        reserve(messages.reduce(0) { $0 + $1.count }, &change)
        for updates in messages { apply(updates, &change) }
        return change
    }

    private func reserve(_ updates: Int, _ change: inout MeshChange) {
        // Most of what comes in large numbers is workloads.
        if updates > 64 { change.workloads.reserveCapacity(updates) }
    }

    private mutating func apply(_ updates: some Collection<MeshUpdate>, _ change: inout MeshChange) {
        for update in updates where update.isRemoval { apply(update, &change) }
        var expectsNew = false
        for update in updates where !update.isRemoval {
            if case .workload(let workload) = update {
                apply(workload, &expectsNew, &change)
            } else {
                apply(update, &change)
            }
        }
    }

    @discardableResult
    public mutating func apply(_ update: MeshUpdate) -> MeshChange {
        var change = MeshChange()
        apply(update, &change)
        return change
    }

    private mutating func apply(_ update: MeshUpdate, _ change: inout MeshChange) {
        switch update {
        case .workload(let workload):
            var expectsNew = false
            apply(workload, &expectsNew, &change)
        case .service(let service):
            let old = tables.servicesByKey[service.key]
            guard old != service else { return }
            if let old { unlink(old) }
            link(service)
            change.services.insert(service.key)
        case .policy(let key, let policy):
            let old = tables.policiesByKey[key]
            guard old != policy else { return }
            if let old { unlink(old, key, &change) }
            link(policy, key, &change)
        case .remove(let name):
            remove(name, &change)
        case .removePolicy(let key):
            guard let old = tables.policiesByKey[key] else { return }
            unlink(old, key, &change)
        }
    }

    /// - Parameter expectsNew: the one before was new. Then this one is put in its place at once, instead of a look for
    ///   what is known: a mesh that comes in is found and made room for in one go. What is known already is left as it is,
    ///   which costs less where nothing changes.
    private mutating func apply(_ workload: Workload, _ expectsNew: inout Bool, _ change: inout MeshChange) {
        let wasEntered = expectsNew
        let old =
            wasEntered
            ? tables.workloadsByUID.updateValue(workload, forKey: workload.uid) : tables.workloadsByUID[workload.uid]
        expectsNew = old == nil
        if let old {
            guard old != workload else {
                if wasEntered { tables.workloadsByUID[old.uid] = old }
                return
            }
            unlink(old, &change)
        }
        if old != nil || !wasEntered { tables.workloadsByUID[workload.uid] = workload }
        link(workload, &change)
    }

    private mutating func remove(_ name: String, _ change: inout MeshChange) {
        if let workload = tables.workloadsByUID[name] {
            unlink(workload, &change)
        } else if let key = NamespacedHostname(name), let service = tables.servicesByKey[key] {
            unlink(service)
            change.services.insert(key)
        }
    }

    // MARK: Workloads

    private func isLocal(_ workload: Workload) -> Bool {
        settings.localNode.map { $0 == workload.node } ?? true
    }

    /// The addresses a workload is found at.
    private func addressKeys(_ workload: Workload) -> some Sequence<NetworkAddress> {
        // The node's address is not the workload's alone: traffic to it passes through.
        let addresses = workload.networkMode == .standard ? workload.addresses.unique : []
        return addresses.lazy.map { NetworkAddress(network: workload.network, address: $0) }
    }

    /// Enters a workload into every index but that of uids, where it is already.
    private mutating func link(_ workload: Workload, _ change: inout MeshChange) {
        change.workloads.insert(workload.uid)
        for key in addressKeys(workload) { tables.workloadsByAddress.append(workload, to: key) }
        if !workload.hostname.isEmpty { tables.workloadsByHostname.append(workload, to: workload.hostname) }
        if isLocal(workload) {
            change.localWorkloads.insert(workload.uid)
            tables.localPods.append(workload, to: NamespacedName(namespace: workload.namespace, name: workload.name))
            let account = NamespacedName(namespace: workload.namespace, name: workload.serviceAccount)
            tables.localAccounts[account, default: [:]][workload.uid] = workload
        }
        for service in workload.services.keys { tables.endpoints[service, default: EndpointSet()].insert(workload) }
    }

    private mutating func unlink(_ workload: Workload, _ change: inout MeshChange) {
        change.workloads.insert(workload.uid)
        tables.workloadsByUID[workload.uid] = nil
        let same: (Workload) -> Bool = { $0.uid == workload.uid }
        for key in addressKeys(workload) { tables.workloadsByAddress.remove(from: key, where: same) }
        if !workload.hostname.isEmpty { tables.workloadsByHostname.remove(from: workload.hostname, where: same) }
        if isLocal(workload) {
            change.localWorkloads.insert(workload.uid)
            let pod = NamespacedName(namespace: workload.namespace, name: workload.name)
            tables.localPods.remove(from: pod, where: same)
            let account = NamespacedName(namespace: workload.namespace, name: workload.serviceAccount)
            tables.localAccounts[account, default: [:]][workload.uid] = nil
            if tables.localAccounts[account]?.isEmpty == true { tables.localAccounts[account] = nil }
        }
        for service in workload.services.keys {
            tables.endpoints[service, default: EndpointSet()].remove(workload)
            if tables.endpoints[service]?.isEmpty == true { tables.endpoints[service] = nil }
        }
    }

    // MARK: Services

    private mutating func link(_ service: Service) {
        tables.servicesByKey[service.key] = service
        for address in unique(service.addresses) { tables.servicesByAddress.append(service, to: address) }
        for block in unique(service.blocks) {
            tables.servicesByBlock.append(service, to: block)
            tables.blockLengths.add(block.cidr)
        }
        tables.servicesByHostname.append(service, to: service.hostname)
    }

    private mutating func unlink(_ service: Service) {
        let key = service.key
        let same: (Service) -> Bool = { $0.key == key }
        tables.servicesByKey[key] = nil
        for address in unique(service.addresses) { tables.servicesByAddress.remove(from: address, where: same) }
        for block in unique(service.blocks) {
            tables.servicesByBlock.remove(from: block, where: same)
            tables.blockLengths.remove(block.cidr)
        }
        tables.servicesByHostname.remove(from: service.hostname, where: same)
    }

    // MARK: Policies

    /// Under which namespace a policy applies by itself; `nil` for one that applies only where it is listed.
    private func realm(_ policy: AuthorizationPolicy) -> String? {
        switch policy.scope {
        case .global: ""
        case .namespace: policy.namespace
        case .workloadSelector: nil
        }
    }

    private mutating func link(_ policy: AuthorizationPolicy, _ key: String, _ change: inout MeshChange) {
        tables.policiesByKey[key] = policy
        change.policies.insert(key)
        guard let realm = realm(policy) else { return }
        var keys = tables.policyKeys[realm] ?? []
        keys.insert(key, at: keys.firstIndex { $0 >= key } ?? keys.endIndex)
        tables.policyKeys[realm] = keys
        change.policyNamespaces.insert(realm)
    }

    private mutating func unlink(_ policy: AuthorizationPolicy, _ key: String, _ change: inout MeshChange) {
        tables.policiesByKey[key] = nil
        change.policies.insert(key)
        guard let realm = realm(policy) else { return }
        let rest = (tables.policyKeys[realm] ?? []).filter { $0 != key }
        tables.policyKeys[realm] = rest.isEmpty ? nil : rest
        change.policyNamespaces.insert(realm)
    }
}

/// The values in order without repetitions: a resource that names an address twice is indexed once.
private func unique<Values: Collection>(_ values: Values) -> [Values.Element] where Values.Element: Hashable {
    if values.count < 2 { return Array(values) }
    var seen: Set<Values.Element> = []
    return values.filter { seen.insert($0).inserted }
}

extension TreeDictionary {
    fileprivate mutating func append<Element>(_ value: Element, to key: Key) where Value == OneOrMany<Element> {
        // Nearly always there is nothing yet.
        guard var values = updateValue(.one(value), forKey: key) else { return }
        values.append(value)
        self[key] = values
    }

    fileprivate mutating func remove<Element>(from key: Key, where matches: (Element) -> Bool)
    where Value == OneOrMany<Element> {
        guard let values = self[key] else { return }
        self[key] = values.removing(matches)
    }
}
