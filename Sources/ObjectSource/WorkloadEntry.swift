/// A workload that is no pod: a virtual machine, an address outside.
public struct WorkloadEntry: Hashable, Sendable {
    public var metadata: ObjectMeta
    public var spec: WorkloadEntrySpec

    public init(metadata: ObjectMeta, spec: WorkloadEntrySpec) {
        self.metadata = metadata
        self.spec = spec
    }

    /// What selectors look at: the object's own labels and those of its spec, which win.
    public var labels: [String: String] { metadata.labels.merging(spec.labels) { $1 } }
}

/// Also an endpoint inside a ``ServiceEntry``.
public struct WorkloadEntrySpec: Hashable, Sendable {
    /// An IP address or a host name; empty where only a network is given.
    public var address: String
    /// By the name of the service's port.
    public var ports: [String: UInt16]
    public var labels: [String: String]
    /// Empty for the network of the mesh.
    public var network: String
    /// `region/zone/subzone`, from the left as far as known.
    public var locality: String
    /// Share of the traffic; `nil` or 0 count as 1.
    public var weight: UInt32?
    public var serviceAccount: String

    public init(
        address: String, ports: [String: UInt16] = [:], labels: [String: String] = [:], network: String = "",
        locality: String = "", weight: UInt32? = nil, serviceAccount: String = ""
    ) {
        self.address = address
        self.ports = ports
        self.labels = labels
        self.network = network
        self.locality = locality
        self.weight = weight
        self.serviceAccount = serviceAccount
    }
}
