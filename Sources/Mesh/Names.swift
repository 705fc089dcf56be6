import Addressing

/// An address with the network it belongs to; the same address may exist in two networks.
public struct NetworkAddress: Hashable, Sendable {
    /// Name of the network, empty for the default one.
    public let network: String
    /// Always in canonical form: an IPv4-mapped IPv6 address is stored as IPv4.
    public let address: IPAddress

    public init(network: String = "", address: IPAddress) {
        self.network = network
        self.address = address.canonical
    }
}

extension NetworkAddress: LosslessStringConvertible {
    /// `network/ip`; the network may be empty, as in `/10.0.0.1`.
    public init?(_ text: String) {
        guard let slash = text.firstIndex(of: "/"),
            let address = IPAddress(text[text.index(after: slash)...])
        else { return nil }
        self.init(network: String(text[..<slash]), address: address)
    }

    public var description: String { "\(network)/\(address)" }
}

/// A block of addresses in a network: a service address that stands for many.
public struct NetworkCIDR: Hashable, Sendable {
    /// Name of the network, empty for the default one.
    public let network: String
    public let cidr: CIDR

    public init(network: String = "", cidr: CIDR) {
        self.network = network
        self.cidr = cidr
    }
}

extension NetworkCIDR: CustomStringConvertible {
    public var description: String { "\(network)/\(cidr)" }
}

/// The key of a service: its namespace and its fully qualified host name.
public struct NamespacedHostname: Hashable, Sendable {
    public let namespace: String
    public let hostname: String

    public init(namespace: String, hostname: String) {
        self.namespace = namespace
        self.hostname = hostname
    }
}

extension NamespacedHostname: LosslessStringConvertible {
    /// `namespace/hostname`, exactly one slash, both parts present.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        self.init(namespace: String(parts[0]), hostname: String(parts[1]))
    }

    public var description: String { "\(namespace)/\(hostname)" }
}

extension NamespacedHostname: Comparable {
    public static func < (left: NamespacedHostname, right: NamespacedHostname) -> Bool {
        (left.namespace, left.hostname) < (right.namespace, right.hostname)
    }
}

/// A name inside a namespace: a pod or a service account.
public struct NamespacedName: Hashable, Sendable {
    public let namespace: String
    public let name: String

    public init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }
}

extension NamespacedName: CustomStringConvertible {
    public var description: String { "\(namespace)/\(name)" }
}

/// Where a waypoint or a network gateway is found.
public struct GatewayAddress: Hashable, Sendable {
    public enum Destination: Hashable, Sendable {
        case address(NetworkAddress)
        case hostname(NamespacedHostname)
    }

    public let destination: Destination
    /// The port that speaks HBONE, 15008 as a rule.
    public let port: UInt16

    public init(_ destination: Destination, port: UInt16 = MeshPorts.hbone) {
        self.destination = destination
        self.port = port
    }
}

extension GatewayAddress: CustomStringConvertible {
    public var description: String {
        switch destination {
        case .address(let address): "\(address):\(port)"
        case .hostname(let name): "\(name):\(port)"
        }
    }
}

/// The ports a ztunnel listens on inside a pod.
public enum MeshPorts {
    /// Captured outbound TCP.
    public static let outbound: UInt16 = 15001
    /// Captured inbound TCP that is no HBONE.
    public static let inboundPlaintext: UInt16 = 15006
    /// HBONE: HTTP/2 CONNECT over mutual TLS.
    public static let hbone: UInt16 = 15008
    /// Ports that no connection may be sent to through the mesh: it would come back to ztunnel itself.
    public static let illegal: Set<UInt16> = [outbound, inboundPlaintext, hbone]
}
