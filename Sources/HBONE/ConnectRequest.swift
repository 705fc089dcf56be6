/// A header field beside the pseudo header fields.
public struct HeaderField: Hashable, Sendable {
    /// Lower case.
    public var name: String
    public var value: String

    public init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// What a client asks of a tunnel: to be connected with an authority (RFC 9113 section 8.5).
public struct ConnectRequest: Hashable, Sendable {
    /// `host:port`, as it stands in `:authority`. Not checked beyond its characters.
    public var authority: String
    /// `baggage`, `forwarded`, `traceparent` and whatever else the peer sent, in its order.
    public var headers: [HeaderField]

    public init(authority: String, headers: [HeaderField] = []) {
        self.authority = authority
        self.headers = headers
    }

    /// The usual fields of HBONE; those that are nil are left out.
    public init(authority: String, baggage: String?, forwarded: String?, traceparent: String?) {
        self.authority = authority
        headers = []
        if let baggage { headers.append(HeaderField("baggage", baggage)) }
        if let forwarded { headers.append(HeaderField("forwarded", forwarded)) }
        if let traceparent { headers.append(HeaderField("traceparent", traceparent)) }
    }

    /// The first field of that name (lower case).
    public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

    public var baggage: String? { header("baggage") }
    public var forwarded: String? { header("forwarded") }
    public var traceparent: String? { header("traceparent") }
}

/// The answer to a ``ConnectRequest``.
public struct ConnectReply: Hashable, Sendable {
    public var status: Int
    public var headers: [HeaderField]

    public init(status: Int, headers: [HeaderField] = []) {
        self.status = status
        self.headers = headers
    }

    /// Whether the tunnel is open.
    public var isSuccess: Bool { (200..<300).contains(status) }

    /// The first field of that name (lower case).
    public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}
