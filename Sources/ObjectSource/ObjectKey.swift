/// A name inside a namespace.
public struct ObjectName: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let namespace: String
    public let name: String

    public init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    public static func < (left: ObjectName, right: ObjectName) -> Bool {
        (left.namespace, left.name) < (right.namespace, right.name)
    }

    /// `namespace/name`
    public var description: String { "\(namespace)/\(name)" }
}

/// The kinds of objects the mesh reads. Others may lie beside them and are passed over.
public enum ObjectKind: String, Hashable, Sendable, CaseIterable {
    case namespace = "Namespace"
    case pod = "Pod"
    case service = "Service"
    case serviceAccount = "ServiceAccount"
    case endpointSlice = "EndpointSlice"
    case authorizationPolicy = "AuthorizationPolicy"
    case peerAuthentication = "PeerAuthentication"
    case node = "Node"
    case gateway = "Gateway"
    case gatewayClass = "GatewayClass"
    case serviceEntry = "ServiceEntry"
    case workloadEntry = "WorkloadEntry"

    /// The values of `apiVersion` that are read.
    public var apiVersions: [String] {
        switch self {
        case .namespace, .pod, .service, .serviceAccount, .node: ["v1"]
        case .endpointSlice: ["discovery.k8s.io/v1"]
        case .authorizationPolicy, .peerAuthentication: ["security.istio.io/v1", "security.istio.io/v1beta1"]
        case .gateway, .gatewayClass: ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
        case .serviceEntry, .workloadEntry: ["networking.istio.io/v1", "networking.istio.io/v1beta1"]
        }
    }

    /// Namespaces themselves are in none.
    public var isNamespaced: Bool { self != .namespace && self != .node && self != .gatewayClass }
}

/// What makes an object one and the same: kind, namespace, name.
public struct ObjectKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let kind: ObjectKind
    /// The namespace is empty for a ``Namespace``.
    public let name: ObjectName

    public init(kind: ObjectKind, name: ObjectName) {
        self.kind = kind
        self.name = name
    }

    public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
        (left.kind.rawValue, left.name) < (right.kind.rawValue, right.name)
    }

    public var description: String { kind.isNamespaced ? "\(kind.rawValue) \(name)" : "\(kind.rawValue) \(name.name)" }
}
