/// Endpoints of a service that are listed rather than selected.
public struct EndpointSlice: Hashable, Sendable {
    public enum AddressType: String, Hashable, Sendable, CaseIterable {
        case v4 = "IPv4"
        case v6 = "IPv6"
        case fqdn = "FQDN"
    }
    /// The label that names the service.
    public static let serviceNameLabel = "kubernetes.io/service-name"

    public var metadata: ObjectMeta
    public var addressType: AddressType
    public var endpoints: [SliceEndpoint]
    public var ports: [SlicePort]

    public init(
        metadata: ObjectMeta, addressType: AddressType, endpoints: [SliceEndpoint] = [], ports: [SlicePort] = []
    ) {
        self.metadata = metadata
        self.addressType = addressType
        self.endpoints = endpoints
        self.ports = ports
    }
}

public struct SliceEndpoint: Hashable, Sendable {
    public var addresses: [String]
    /// `nil` counts as ready.
    public var isReady: Bool?
    public var nodeName: String
    public var target: ObjectReference?

    public init(addresses: [String], isReady: Bool? = nil, nodeName: String = "", target: ObjectReference? = nil) {
        self.addresses = addresses
        self.isReady = isReady
        self.nodeName = nodeName
        self.target = target
    }
}

/// The object behind an endpoint.
public struct ObjectReference: Hashable, Sendable {
    public var kind: String
    public var name: String
    /// That of the slice where it says none.
    public var namespace: String
    public var uid: String

    public init(kind: String, name: String, namespace: String, uid: String = "") {
        self.kind = kind
        self.name = name
        self.namespace = namespace
        self.uid = uid
    }
}

public struct SlicePort: Hashable, Sendable {
    /// The name of the service's port.
    public var name: String
    /// `nil` stands for every port and is not used.
    public var port: UInt16?
    public var transport: Transport

    public init(name: String = "", port: UInt16?, transport: Transport = .tcp) {
        self.name = name
        self.port = port
        self.transport = transport
    }
}
