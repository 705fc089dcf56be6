/// The agent's request to the controller, over token.sock: one request, one ``TokenReply``, then the end.
///
/// As a rule it asks for the node's token. With ``released`` it asks instead to be answered once the mesh's proxies
/// have taken note that a pod is no longer captured: then connections that come in the old way can be refused.
public struct TokenRequest: HandoverMessage {
    public static let maximumLength = 1024

    /// The node the token is bound to.
    public var node: String
    /// `namespace/name` of the pod to wait for; empty to ask for a token.
    public var released: String

    public init(node: String, released: String = "") {
        self.node = node
        self.released = released
    }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init(node: "")
        while let field = try reader.nextField() {
            switch field {
            case 1: node = try reader.string(limit: HandoverLimits.name)
            case 2: released = try reader.string(limit: 2 * HandoverLimits.name + 1)
            default: break
            }
        }
        guard !node.isEmpty else { throw HandoverError(.missing, "\(Self.name): no node") }
    }

    public func write(to writer: inout ProtobufWriter) {
        writer.string(1, node)
        writer.string(2, released)
    }
}

/// The controller's answer to a ``TokenRequest``.
public struct TokenReply: HandoverMessage {
    public static let maximumLength = 64 << 10

    /// A JWT.
    public var token: String
    /// The root certificates that the controller's server certificate chains to, PEM.
    public var rootPEM: String
    /// When the token ends, seconds since 1970.
    public var expiresAt: Int64
    /// Empty: the fields above hold. Else why there is no token.
    public var error: String

    public init(token: String = "", rootPEM: String = "", expiresAt: Int64 = 0, error: String = "") {
        self.token = token
        self.rootPEM = rootPEM
        self.expiresAt = expiresAt
        self.error = error
    }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init()
        while let field = try reader.nextField() {
            switch field {
            case 1: token = try reader.string(limit: Self.maximumLength)
            case 2: rootPEM = try reader.string(limit: Self.maximumLength)
            case 3: expiresAt = Int64(bitPattern: try reader.number())
            case 4: error = try reader.string(limit: HandoverLimits.path)
            default: break
            }
        }
    }

    public func write(to writer: inout ProtobufWriter) {
        writer.string(1, token)
        writer.string(2, rootPEM)
        // Written in any case: a reply with nothing in it would be an empty packet, which means that the peer is gone.
        writer.present(3, UInt64(bitPattern: expiresAt))
        writer.string(4, error)
    }
}
