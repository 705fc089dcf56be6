/// A gateway of the Gateway API, as far as the mesh looks at it: as a waypoint or as the way into a network.
public struct Gateway: Hashable, Sendable {
    /// A port that the gateway serves.
    public struct Listener: Hashable, Sendable {
        public var name: String
        public var port: UInt16
        /// As written: `HBONE`, `HTTP`.
        public var protocolName: String
        /// Whose objects may use it.
        public var allowedNamespaces: AllowedNamespaces

        public init(name: String, port: UInt16, protocolName: String, allowedNamespaces: AllowedNamespaces = .same) {
            self.name = name
            self.port = port
            self.protocolName = protocolName
            self.allowedNamespaces = allowedNamespaces
        }
    }

    public enum AllowedNamespaces: Hashable, Sendable {
        case none
        /// The gateway's own.
        case same
        case all
        case selected(LabelSelector)
    }

    /// Where the gateway is reached.
    public struct Address: Hashable, Sendable {
        public enum Kind: Hashable, Sendable { case ip, hostname }
        public var kind: Kind
        public var value: String

        public init(_ kind: Kind, _ value: String) {
            self.kind = kind
            self.value = value
        }
    }

    public var metadata: ObjectMeta
    public var className: String
    public var listeners: [Listener]
    /// What the user asks for; where a gateway of another network is.
    public var specAddresses: [Address]
    /// What it got; empty until it is ready.
    public var statusAddresses: [Address]

    public init(
        metadata: ObjectMeta, className: String, listeners: [Listener] = [], specAddresses: [Address] = [],
        statusAddresses: [Address] = []
    ) {
        self.metadata = metadata
        self.className = className
        self.listeners = listeners
        self.specAddresses = specAddresses
        self.statusAddresses = statusAddresses
    }
}

/// What gateways of one class have in common.
public struct GatewayClass: Hashable, Sendable {
    public var metadata: ObjectMeta
    /// Who makes gateways of this class, as `istio.io/mesh-controller`.
    public var controllerName: String

    public init(metadata: ObjectMeta, controllerName: String) {
        self.metadata = metadata
        self.controllerName = controllerName
    }
}
