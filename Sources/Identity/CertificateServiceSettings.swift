import Addressing

/// How a server of the control plane is known.
public enum ServerRoots: Sendable, Hashable {
    /// A PEM file, read again for every connection.
    case file(String)
    case pem(String)
    /// The operating system's.
    case system
}

/// What a server of the control plane is shown.
public enum ClientToken: Sendable, Hashable {
    /// A file, read again for every request.
    case file(String)
    case text(String)
    case none
}

/// Where Istio's certificate service is and with what to go there.
public struct CertificateServiceSettings: Sendable {
    /// `https://host:port` or `host:port`; IPv6 addresses in brackets.
    public var address: String
    /// What the server's certificate is checked against.
    public var roots: ServerRoots
    /// Says who asks.
    public var token: ClientToken
    /// The name to expect in the server's certificate, where it is not the host of the address.
    public var serverName: String?
    /// Sent in the `clusterid` header.
    public var clusterID: String
    /// Asks in the name of others, as a node's proxy does. Else certificates are for the token's own identity.
    public var impersonates = true
    /// More gRPC metadata.
    public var headers: [(name: String, value: String)] = []
    /// Limit of one request, connecting included.
    public var deadline: Duration = .seconds(10)

    public init(
        address: String, roots: ServerRoots, token: ClientToken, serverName: String? = nil,
        clusterID: String = "Kubernetes"
    ) {
        self.address = address
        self.roots = roots
        self.token = token
        self.serverName = serverName
        self.clusterID = clusterID
    }

    public init(
        address: String, rootFile: String, tokenFile: String, serverName: String? = nil,
        clusterID: String = "Kubernetes"
    ) {
        self.init(
            address: address, roots: .file(rootFile), token: .file(tokenFile), serverName: serverName,
            clusterID: clusterID)
    }
}

/// The address of a TLS server, taken apart.
struct ServerAddress: Equatable {
    enum Host: Equatable {
        case address(IPAddress)
        case name(String)
    }

    let host: Host
    let port: Int

    /// - Throws: ``IdentityError`` with `configuration`; plain HTTP is refused, because a token goes along.
    init(_ text: String) throws(IdentityError) {
        var rest = text[...]
        if let range = rest.firstRange(of: "://") {
            guard rest[..<range.lowerBound].lowercased() == "https" else {
                throw IdentityError(
                    .configuration, "\(text) is not an https address", hint: "the token must not travel in the clear")
            }
            rest = rest[range.upperBound...]
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        if let endpoint = Endpoint(String(rest)) {
            guard endpoint.port != 0 else { throw Self.malformed(text) }
            host = .address(endpoint.address)
            port = Int(endpoint.port)
            return
        }
        guard let colon = rest.lastIndex(of: ":"), let number = UInt16(rest[rest.index(after: colon)...]), number != 0
        else { throw Self.malformed(text) }
        let name = rest[..<colon]
        guard (1...253).contains(name.utf8.count),
            name.utf8.allSatisfy({ byte in
                (48...57).contains(byte) || (97...122).contains(byte | 0x20) || byte == UInt8(ascii: "-")
                    || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
            })
        else { throw Self.malformed(text) }
        host = .name(String(name))
        port = Int(number)
    }

    private static func malformed(_ text: String) -> IdentityError {
        IdentityError(.configuration, "\(text) is not the address of a server", hint: "write https://host:port")
    }
}
