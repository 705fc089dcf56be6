/// A request as a route sees it.
public struct HTTPRequest: Sendable {
    public let method: String
    /// Without the query.
    public let path: String
    /// Name and value of each parameter in the order they came, percent-decoded; a parameter without `=` has no value.
    public let query: [(name: String, value: String?)]
    /// Name and value of each header in the order they came.
    public let headers: [(name: String, value: String)]
    public let body: [UInt8]

    public init(
        method: String, path: String, query: [(name: String, value: String?)] = [],
        headers: [(name: String, value: String)] = [], body: [UInt8] = []
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
    }

    /// The first header of this name, in any case.
    public func header(_ name: String) -> String? {
        let name = name.lowercased()
        return headers.first { $0.name.lowercased() == name }?.value
    }

    /// Whether the query has a parameter, with or without a value.
    public func hasParameter(_ name: String) -> Bool { query.contains { $0.name == name } }

    /// The value of the first parameter of this name.
    public func parameter(_ name: String) -> String? { query.first { $0.name == name }?.value }

    /// Splits a request target (`/path?a=b&c`); `nil` when it does not begin with a slash or is not well encoded.
    static func split(target: String) -> (path: String, query: [(name: String, value: String?)])? {
        guard target.hasPrefix("/") else { return nil }
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard let path = decode(parts[0], plusIsSpace: false) else { return nil }
        var query: [(name: String, value: String?)] = []
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decode(sides[0], plusIsSpace: true) else { return nil }
            var value: String?
            if sides.count > 1 {
                guard let decoded = decode(sides[1], plusIsSpace: true) else { return nil }
                value = decoded
            }
            query.append((name, value))
        }
        return (path, query)
    }

    private static func decode(_ text: Substring, plusIsSpace: Bool) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "%"):
                let digits = rest.prefix(2)
                guard digits.count == 2, digits.allSatisfy(isHex), let value = UInt8(Substring(digits), radix: 16)
                else { return nil }
                bytes.append(value)
                rest = rest.dropFirst(2)
            case UInt8(ascii: "+") where plusIsSpace: bytes.append(UInt8(ascii: " "))
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func isHex(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...70).contains(byte) || (97...102).contains(byte)
    }
}

/// The answer to a request.
public struct HTTPReply: Sendable {
    public var status: Int
    /// Besides `content-type`, `content-length` and `connection`, which are seen to.
    public var headers: [(name: String, value: String)]
    public var contentType: String
    public var body: [UInt8]

    public init(
        status: Int = 200, contentType: String, headers: [(name: String, value: String)] = [], body: [UInt8]
    ) {
        self.status = status
        self.headers = headers
        self.contentType = contentType
        self.body = body
    }

    /// Plain text, as it is.
    public static func text(
        _ text: String, status: Int = 200, contentType: String = "text/plain; charset=utf-8"
    ) -> HTTPReply {
        HTTPReply(status: status, contentType: contentType, body: Array(text.utf8))
    }

    /// A document that is JSON already.
    public static func json(_ document: [UInt8], status: Int = 200) -> HTTPReply {
        HTTPReply(status: status, contentType: "application/json", body: document)
    }
}

/// What one method of one path does. A thrown error is answered with 500 and its text.
public struct HTTPRoute: Sendable {
    public let method: String
    public let path: String
    public let handle: @Sendable (HTTPRequest) async throws -> HTTPReply

    /// A route for GET answers HEAD as well.
    public init(
        _ method: String, _ path: String, _ handle: @escaping @Sendable (HTTPRequest) async throws -> HTTPReply
    ) {
        self.method = method
        self.path = path
        self.handle = handle
    }
}

/// Finds the route for a request and answers in its place where there is none.
struct HTTPRouter: Sendable {
    private let routes: [String: [HTTPRoute]]

    init(_ routes: [HTTPRoute]) {
        self.routes = Dictionary(grouping: routes, by: \.path)
    }

    func answer(_ request: HTTPRequest) async -> HTTPReply {
        guard let candidates = routes[request.path] else { return .text("not found\n", status: 404) }
        let method = request.method == "HEAD" ? "GET" : request.method
        guard let route = candidates.first(where: { $0.method == request.method || $0.method == method }) else {
            var allowed = candidates.map(\.method)
            if allowed.contains("GET") { allowed.append("HEAD") }
            var reply = HTTPReply.text("method not allowed, use \(allowed.joined(separator: " or "))\n", status: 405)
            reply.headers.append(("allow", allowed.joined(separator: ", ")))
            return reply
        }
        do {
            return try await route.handle(request)
        } catch {
            return .text("\(error)\n", status: 500)
        }
    }
}
