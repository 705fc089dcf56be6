import Addressing

/// Where the control plane is and with what to go there.
public struct DiscoverySettings: Sendable {
    /// How to know the server.
    public enum Roots: Sendable {
        /// A PEM file, read again for every connection.
        case file(String)
        case pem(String)
        /// The operating system's.
        case system
    }

    /// What to show the server.
    public enum Token: Sendable {
        /// A file, read again for every connection.
        case file(String)
        case text(String)
        case none
    }

    /// `https://host:port` or `host:port`; IPv6 addresses in brackets. Plain HTTP is refused.
    public var address: String
    /// The name to expect in the server's certificate, where it is not the host of the address.
    public var serverName: String?
    public var roots: Roots
    public var token: Token
    /// Sent in the `clusterid` header.
    public var clusterID: String
    /// More gRPC metadata.
    public var headers: [(name: String, value: String)] = []
    public var node: DiscoveryNode
    /// First pause after a failed connection; doubled to ``maximumBackoff``, half of it by chance.
    public var minimumBackoff = Duration.milliseconds(10)
    public var maximumBackoff = Duration.seconds(15)
    /// Workloads and services are asked for by name, instead of all of them at once.
    public var isOnDemand = false
    /// Largest message taken from the server.
    public var maximumMessageBytes = 200 << 20

    public init(
        address: String, serverName: String? = nil, roots: Roots, token: Token, clusterID: String = "Kubernetes",
        node: DiscoveryNode
    ) {
        self.address = address
        self.serverName = serverName
        self.roots = roots
        self.token = token
        self.clusterID = clusterID
        self.node = node
    }
}

/// Who asks, as the control plane wants to know it.
public struct DiscoveryNode: Hashable, Sendable {
    public var nodeName: String
    public var podName: String
    public var podNamespace: String
    public var instanceAddress: String
    /// More metadata, as strings.
    public var metadata: [String: String]
    /// Still more, as texts of JSON; what is no JSON goes as a string.
    public var jsonMetadata: [String: String] = [:]

    public init(
        nodeName: String, podName: String = "", podNamespace: String = "", instanceAddress: String = "1.1.1.1",
        metadata: [String: String] = [:]
    ) {
        self.nodeName = nodeName
        self.podName = podName
        self.podNamespace = podNamespace
        self.instanceAddress = instanceAddress
        self.metadata = metadata
    }

    /// `ztunnel~<address>~<pod>.<namespace>~<namespace>.svc.cluster.local`
    public var id: String {
        "ztunnel~\(instanceAddress)~\(podName).\(podNamespace)~\(podNamespace).svc.cluster.local"
    }
}

/// Why there is no connection to the control plane.
public struct DiscoveryError: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable, Hashable {
        case configuration
        case rootsUnreadable
        case tokenUnreadable
        case tokenMissing
        /// No connection came about.
        case unreachable
        /// The server refused us.
        case refused
        /// A connection that had worked ended.
        case interrupted
    }

    public let code: Code
    public let message: String
    public let cause: String
    public let hint: String

    public init(_ code: Code, _ message: String, cause: String = "", hint: String = "") {
        self.code = code
        self.message = message
        self.cause = cause
        self.hint = hint
    }

    public var description: String {
        message + (cause.isEmpty ? "" : ": \(cause)") + (hint.isEmpty ? "" : " (\(hint))")
    }
}
