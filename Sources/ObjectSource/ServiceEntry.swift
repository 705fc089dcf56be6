/// Hosts that are reached as services though Kubernetes has no service of that name.
public struct ServiceEntry: Hashable, Sendable {
    /// How an address for a host is found.
    public enum Resolution: String, Hashable, Sendable, CaseIterable {
        /// The address that the client used.
        case none = "NONE"
        case `static` = "STATIC"
        case dns = "DNS"
        case dnsRoundRobin = "DNS_ROUND_ROBIN"
        case dynamicDNS = "DYNAMIC_DNS"
    }

    public struct Port: Hashable, Sendable {
        public var name: String
        public var number: UInt16
        /// As written: `HTTP`, `TLS`.
        public var protocolName: String
        /// `nil` means the same number.
        public var target: UInt16?

        public init(name: String, number: UInt16, protocolName: String = "", target: UInt16? = nil) {
            self.name = name
            self.number = number
            self.protocolName = protocolName
            self.target = target
        }
    }

    /// An address that the control plane chose for a host.
    public struct AllocatedAddress: Hashable, Sendable {
        public var value: String
        /// Empty for all hosts.
        public var host: String

        public init(_ value: String, host: String = "") {
            self.value = value
            self.host = host
        }
    }

    public var metadata: ObjectMeta
    public var hosts: [String]
    /// Addresses or blocks of them, as text.
    public var addresses: [String]
    public var ports: [Port]
    public var resolution: Resolution
    public var endpoints: [WorkloadEntrySpec]
    /// Pods and workload entries with all these labels are endpoints; empty selects none.
    public var selector: [String: String]
    public var subjectAltNames: [String]
    public var allocated: [AllocatedAddress]

    public init(
        metadata: ObjectMeta, hosts: [String], addresses: [String] = [], ports: [Port] = [],
        resolution: Resolution = .none, endpoints: [WorkloadEntrySpec] = [], selector: [String: String] = [:],
        subjectAltNames: [String] = [], allocated: [AllocatedAddress] = []
    ) {
        self.metadata = metadata
        self.hosts = hosts
        self.addresses = addresses
        self.ports = ports
        self.resolution = resolution
        self.endpoints = endpoints
        self.selector = selector
        self.subjectAltNames = subjectAltNames
        self.allocated = allocated
    }
}
