import Addressing

/// What to do with a captured connection: the outcome of
/// ``MeshState/route(from:sourceAddress:to:resolved:avoiding:random:)``.
public enum Route: Hashable, Sendable {
    /// Plain TCP to where the client wanted to go; the mesh knows nothing about it.
    case passthrough(Endpoint)
    /// Plain TCP to a workload that is not captured.
    case tcp(Endpoint, Upstream)
    /// A tunnel to the workload's node or to a waypoint.
    case hbone(HBONERoute)
    /// A tunnel inside a tunnel, through the gateway of another network.
    case doubleHBONE(DoubleHBONERoute)

    /// The workload that is connected to: the destination, an instance of the waypoint, or one of the gateway. `nil` for
    /// a destination the mesh does not know.
    public var nextHop: Workload? {
        switch self {
        case .passthrough: nil
        case .tcp(_, let upstream): upstream.workload
        case .hbone(let route): route.workload
        case .doubleHBONE(let route): route.gateway
        }
    }
}

/// The workload a connection was decided to go to.
public struct Upstream: Hashable, Sendable {
    public let workload: Workload
    /// The service the client addressed, if it did.
    public let service: Service?
    /// The port of the application.
    public let port: UInt16

    public init(workload: Workload, service: Service?, port: UInt16) {
        self.workload = workload
        self.service = service
        self.port = port
    }
}

/// A connection through one HBONE tunnel.
public struct HBONERoute: Hashable, Sendable {
    /// Where the tunnel is connected to.
    public let dial: Endpoint
    /// What the peer is asked for with CONNECT.
    public let authority: HBONEAuthority
    /// The peer's certificate must prove one of these; the list is never empty.
    public let expectedIdentities: [SPIFFEIdentity]
    /// The workload the tunnel leads to: the destination, or an instance of the waypoint.
    public let workload: Workload
    /// The service the client addressed, if it did.
    public let service: Service?
    /// The tunnel leads to a waypoint and not to the destination itself.
    public let isWaypoint: Bool

    public init(
        dial: Endpoint, authority: HBONEAuthority, expectedIdentities: [SPIFFEIdentity], workload: Workload,
        service: Service?, isWaypoint: Bool
    ) {
        self.dial = dial
        self.authority = authority
        self.expectedIdentities = expectedIdentities
        self.workload = workload
        self.service = service
        self.isWaypoint = isWaypoint
    }
}

/// A connection to another network: an outer tunnel to its gateway and, inside, one to the destination.
public struct DoubleHBONERoute: Hashable, Sendable {
    /// Where the outer tunnel is connected to.
    public let dial: Endpoint
    /// For the outer tunnel.
    public let gatewayIdentities: [SPIFFEIdentity]
    public let gateway: Workload
    /// `service host:service port`, asked for in both tunnels.
    public let authority: HBONEAuthority
    /// For the inner tunnel: the service's own alternative names alone. Empty can match no peer.
    public let expectedIdentities: [SPIFFEIdentity]
    /// The chosen workload of the other network, which may stand for many.
    public let workload: Workload
    public let service: Service
    /// Value of `x-forwarded-network` in the inner request.
    public let sourceNetwork: String

    public init(
        dial: Endpoint, gatewayIdentities: [SPIFFEIdentity], gateway: Workload, authority: HBONEAuthority,
        expectedIdentities: [SPIFFEIdentity], workload: Workload, service: Service, sourceNetwork: String
    ) {
        self.dial = dial
        self.gatewayIdentities = gatewayIdentities
        self.gateway = gateway
        self.authority = authority
        self.expectedIdentities = expectedIdentities
        self.workload = workload
        self.service = service
        self.sourceNetwork = sourceNetwork
    }
}

/// The `:authority` of an HBONE request: an address or a host name, always with a port.
public enum HBONEAuthority: Hashable, Sendable {
    case address(Endpoint)
    case host(String, UInt16)

    public var port: UInt16 {
        switch self {
        case .address(let endpoint): endpoint.port
        case .host(_, let port): port
        }
    }
}

extension HBONEAuthority: LosslessStringConvertible {
    /// `10.0.0.1:80`, `[fd00::1]:80` or `host.example:80`. A port from 1 to 65535 must be there; a host name is at most
    /// 253 letters, digits, `-`, `_` and `.`.
    public init?(_ text: String) {
        guard text.utf8.count <= 260 else { return nil }
        if let endpoint = Endpoint(text) {
            guard endpoint.port != 0 else { return nil }
            self = .address(endpoint.canonical)
            return
        }
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let host = text[..<colon]
        let digits = text[text.index(after: colon)...]
        guard (1...253).contains(host.utf8.count), host.utf8.allSatisfy(Self.isHostByte),
            // An address that is none, such as 10.0.0.256, is no host name either.
            host.utf8.contains(where: { !(48...57).contains($0) && $0 != UInt8(ascii: ".") }),
            (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }),
            let port = UInt16(digits), port != 0
        else { return nil }
        self = .host(host.lowercased(), port)
    }

    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    public var description: String {
        switch self {
        case .address(let endpoint): endpoint.description
        case .host(let host, let port): "\(host):\(port)"
        }
    }
}

/// Why a connection has no route. The connection is refused; nothing falls back to going around the mesh.
public struct RouteError: Error, Hashable, Sendable {
    public enum Code: String, Hashable, Sendable {
        /// The service has no endpoint that may be used, or not this port.
        case noHealthyUpstream
        case unknownWaypoint
        case unknownNetworkGateway
        /// The destination is in another network, and no gateway is known for it.
        case noNetworkGateway
        /// The destination is in another network, where only services can be addressed.
        case notServiceAddressed
        /// The workload chosen has no address and no host name.
        case noValidDestination
        /// The workload chosen has only a host name; resolve ``RouteError/hostname`` and route again with the answer.
        case needsResolution
        /// The host name was resolved, to nothing.
        case noAddressResolved
    }

    public let code: Code
    /// For an operator.
    public let message: String
    public let hint: String?
    /// The name to resolve, with ``Code/needsResolution``.
    public let hostname: String?
    /// What was not found, where a control plane may know it.
    public let missing: MeshName?

    public init(
        _ code: Code, _ message: String, hint: String? = nil, hostname: String? = nil, missing: MeshName? = nil
    ) {
        self.code = code
        self.message = message
        self.hint = hint
        self.hostname = hostname
        self.missing = missing
    }
}

extension RouteError: CustomStringConvertible {
    public var description: String { hint.map { "\(message); \($0)" } ?? message }
}
