/// What a control plane can be asked for by name.
public enum MeshName: Hashable, Sendable {
    /// A workload or a service at an address.
    case address(NetworkAddress)
    /// A service, or a workload of this host name.
    case host(NamespacedHostname)
}

extension MeshName: CustomStringConvertible {
    /// As it stands in a request: `network/address` or `namespace/hostname`.
    public var description: String {
        switch self {
        case .address(let address): address.description
        case .host(let name): name.description
        }
    }
}

extension GatewayAddress {
    public var name: MeshName {
        switch destination {
        case .address(let address): .address(address)
        case .hostname(let name): .host(name)
        }
    }
}

extension MeshState {
    /// Whether something of this name is known.
    public func knows(_ name: MeshName) -> Bool {
        switch name {
        case .address(let key):
            workload(at: key.address, network: key.network) != nil
                || service(at: key.address, network: key.network, from: nil) != nil
        case .host(let key): tables.servicesByKey[key] != nil || workload(hostname: key) != nil
        }
    }
}

/// Asks the control plane for what is not known yet, where the mesh is not subscribed to as a whole.
public protocol MeshDemand: Sendable {
    /// Asks for a name; later changes of what it stands for come unasked.
    ///
    /// - Parameter done: Called at most once, on any thread, when the control plane has answered and the store holds what
    ///   it said, if anything; at once for a name that was answered before. Not called while there is no answer: who
    ///   asks sets a limit.
    func ask(for name: MeshName, done: @escaping @Sendable () -> Void)
}
