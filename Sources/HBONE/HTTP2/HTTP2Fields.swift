/// Turns decoded header fields into requests and replies, and refuses malformed ones (RFC 9113 section 8).
enum HTTP2Fields {
    /// A well-formed request: a CONNECT, or one with another method.
    enum Request: Equatable {
        case connect(ConnectRequest)
        case other(method: String)
    }

    /// Nil when the request is malformed.
    static func request(_ fields: [HTTP2PlainFields.Field]) -> Request? {
        var method: String?
        var authority: String?
        var hasPath = false
        var hasScheme = false
        var headers: [HeaderField] = []
        for (name, value) in fields {
            guard name.utf8.first == UInt8(ascii: ":") else {
                guard isRegular(name, value) else { return nil }
                headers.append(HeaderField(name, value))
                continue
            }
            // Pseudo header fields come first, each at most once (section 8.3).
            guard headers.isEmpty, isValue(value) else { return nil }
            switch name {
            case ":method" where method == nil: method = value
            case ":authority" where authority == nil: authority = value
            case ":path" where !hasPath: hasPath = true
            case ":scheme" where !hasScheme: hasScheme = true
            default: return nil
            }
        }
        guard let method else { return nil }
        guard method == "CONNECT" else {
            return hasPath && hasScheme ? .other(method: method) : nil
        }
        // A CONNECT has neither scheme nor path, and an authority (section 8.5).
        guard !hasPath, !hasScheme, let authority, isAuthority(authority) else { return nil }
        return .connect(ConnectRequest(authority: authority, headers: headers))
    }

    /// Nil when the reply is malformed.
    static func reply(_ fields: [HTTP2PlainFields.Field]) -> ConnectReply? {
        var status: Int?
        var headers: [HeaderField] = []
        for (name, value) in fields {
            guard name.utf8.first == UInt8(ascii: ":") else {
                guard isRegular(name, value) else { return nil }
                headers.append(HeaderField(name, value))
                continue
            }
            guard headers.isEmpty, name == ":status", status == nil, value.utf8.count == 3,
                value.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(value), number >= 100
            else { return nil }
            status = number
        }
        return status.map { ConnectReply(status: $0, headers: headers) }
    }

    /// Trailers carry no pseudo header fields.
    static func areTrailers(_ fields: [HTTP2PlainFields.Field]) -> Bool {
        fields.allSatisfy { name, value in name.utf8.first != UInt8(ascii: ":") && isRegular(name, value) }
    }

    /// Whether a field may be sent: the same rules that hold for fields received.
    static func isRegular(_ name: String, _ value: String) -> Bool {
        isName(name) && isValue(value) && !isConnectionSpecific(name, value)
    }

    private static func isName(_ name: String) -> Bool {
        !name.isEmpty
            && holds(name) { byte in
                // Visible ASCII without upper case and colon (section 8.2.1).
                byte > 0x20 && byte < 0x7f && !(0x41...0x5a).contains(byte) && byte != UInt8(ascii: ":")
            }
    }

    static func isValue(_ value: String) -> Bool {
        guard let first = value.utf8.first, let last = value.utf8.last else { return true }
        guard first != 0x20, first != 0x09, last != 0x20, last != 0x09 else { return false }
        return holds(value) { $0 != 0 && $0 != 0x0a && $0 != 0x0d }
    }

    static func isAuthority(_ value: String) -> Bool {
        !value.isEmpty && holds(value) { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "@") }
    }

    /// Whether every byte is as it should be. The view's own iterator looks at each for where a character begins.
    @inline(__always)
    private static func holds(_ text: String, _ condition: (UInt8) -> Bool) -> Bool {
        text.utf8.withContiguousStorageIfAvailable { $0.allSatisfy(condition) } ?? text.utf8.allSatisfy(condition)
    }

    private static func isConnectionSpecific(_ name: String, _ value: String) -> Bool {
        switch name {
        case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade": true
        case "te": value != "trailers"
        default: false
        }
    }
}
