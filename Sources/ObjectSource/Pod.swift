/// A pod, as far as the mesh looks at it.
public struct Pod: Hashable, Sendable {
    public var metadata: ObjectMeta
    public var spec: PodSpec
    public var status: PodStatus

    public init(metadata: ObjectMeta, spec: PodSpec = PodSpec(), status: PodStatus = PodStatus()) {
        self.metadata = metadata
        self.spec = spec
        self.status = status
    }

    public var name: ObjectName { metadata.objectName }
}

/// Where a pod's resolv.conf comes from.
public enum DNSPolicy: String, Hashable, Sendable, CaseIterable {
    case clusterFirst = "ClusterFirst"
    case clusterFirstWithHostNet = "ClusterFirstWithHostNet"
    /// The node's.
    case `default` = "Default"
    /// ``PodDNSConfig`` alone.
    case none = "None"
}

/// What is added to a pod's resolv.conf.
public struct PodDNSConfig: Hashable, Sendable {
    /// Addresses as text.
    public var nameservers: [String]
    public var searches: [String]
    /// As resolv.conf has them: `name` or `name:value`.
    public var options: [String]

    public init(nameservers: [String] = [], searches: [String] = [], options: [String] = []) {
        self.nameservers = nameservers
        self.searches = searches
        self.options = options
    }
}

public struct PodSpec: Hashable, Sendable {
    /// Never empty: `default` unless said otherwise.
    public var serviceAccountName: String
    /// Empty until the pod is scheduled.
    public var nodeName: String
    /// The pod uses the node's own addresses.
    public var hostNetwork: Bool
    public var dnsPolicy: DNSPolicy
    public var dnsConfig: PodDNSConfig?
    public var containers: [Container]
    public var initContainers: [Container]
    /// Those that `kubectl debug` has put into the pod.
    public var ephemeralContainers: [Container]

    public init(
        serviceAccountName: String = "default", nodeName: String = "", hostNetwork: Bool = false,
        dnsPolicy: DNSPolicy = .clusterFirst, dnsConfig: PodDNSConfig? = nil,
        containers: [Container] = [], initContainers: [Container] = [], ephemeralContainers: [Container] = []
    ) {
        self.serviceAccountName = serviceAccountName
        self.nodeName = nodeName
        self.hostNetwork = hostNetwork
        self.dnsPolicy = dnsPolicy
        self.dnsConfig = dnsConfig
        self.containers = containers
        self.initContainers = initContainers
        self.ephemeralContainers = ephemeralContainers
    }
}

public struct Container: Hashable, Sendable {
    public var name: String
    public var ports: [ContainerPort]
    /// `Always` on an init container makes it run beside the others for the pod's life.
    public var restartPolicy: String
    public var capabilities: ContainerCapabilities
    /// Where kubelet's probes and lifecycle hooks connect to.
    public var probePorts: [UInt16]

    public init(
        name: String, ports: [ContainerPort] = [], restartPolicy: String = "",
        capabilities: ContainerCapabilities = ContainerCapabilities(), probePorts: [UInt16] = []
    ) {
        self.name = name
        self.ports = ports
        self.restartPolicy = restartPolicy
        self.capabilities = capabilities
        self.probePorts = probePorts
    }
}

/// What a container's `securityContext` says of Linux capabilities.
public struct ContainerCapabilities: Hashable, Sendable {
    /// All capabilities, whatever the lists say.
    public var isPrivileged: Bool
    /// As written: `NET_ADMIN`, `ALL`.
    public var added: [String]
    public var dropped: [String]

    public init(isPrivileged: Bool = false, added: [String] = [], dropped: [String] = []) {
        self.isPrivileged = isPrivileged
        self.added = added
        self.dropped = dropped
    }
}

extension PodSpec {
    /// The ports of the pod that kubelet connects to, sorted, each once.
    public var probePorts: [UInt16] { Set((containers + initContainers).flatMap(\.probePorts)).sorted() }
}

public struct ContainerPort: Hashable, Sendable {
    /// May be empty.
    public var name: String
    public var port: UInt16
    public var transport: Transport

    public init(name: String = "", port: UInt16, transport: Transport = .tcp) {
        self.name = name
        self.port = port
        self.transport = transport
    }
}

/// The transport of a port.
public enum Transport: String, Hashable, Sendable, CaseIterable {
    case tcp = "TCP"
    case udp = "UDP"
    case sctp = "SCTP"
}

public struct PodStatus: Hashable, Sendable {
    public enum Phase: String, Hashable, Sendable, CaseIterable {
        case pending = "Pending"
        case running = "Running"
        case succeeded = "Succeeded"
        case failed = "Failed"
        case unknown = "Unknown"

        /// All containers have ended and none comes back.
        public var isTerminal: Bool { self == .succeeded || self == .failed }
    }

    /// `nil` until somebody has reported one.
    public var phase: Phase?
    /// As text, the first one preferred. Checked to be addresses where they are read.
    public var podIPs: [String]
    /// The condition `Ready`.
    public var isReady: Bool

    public init(phase: Phase? = nil, podIPs: [String] = [], isReady: Bool = false) {
        self.phase = phase
        self.podIPs = podIPs
        self.isReady = isReady
    }
}
