import AsyncHTTPClient
import Logging
import NIOCore
import NIOHTTP1
import ObjectSource

/// Limits of a client.
public struct ClientSettings: Sendable {
    /// For a connection and its TLS.
    public var connectTimeout = Duration.seconds(5)
    /// For a request as a whole, watches aside.
    public var requestTimeout = Duration.seconds(30)
    /// The longest that a watch may be silent: a server that has nothing to tell sends bookmarks about once a minute.
    public var watchSilence = Duration.seconds(150)
    /// Objects a page.
    public var pageSize = 500
    /// Bytes of one answer, a page of a list included.
    public var maximumAnswer = 64 << 20
    /// Bytes of one event of a watch; a server stores no object of more than some 3 MiB.
    public var maximumEvent = 8 << 20
    /// Who writes, for the server's records of field owners.
    public var fieldManager = "apus"

    public init() {}
}

/// Speaks to one API server. Every request has a deadline, every answer a bound; credentials and authorities are
/// taken as they are at the moment of a request.
public final class KubernetesClient: Sendable {
    public let configuration: ClusterConfiguration
    public let settings: ClientSettings
    private let access: Access
    private let http: HTTPClient
    /// Watches: other timeouts, and connections that are held for minutes.
    private let watching: HTTPClient
    private let base: String

    public init(_ configuration: ClusterConfiguration, settings: ClientSettings = ClientSettings()) {
        self.configuration = configuration
        self.settings = settings
        access = Access(configuration)
        var overrides: [String: String] = [:]
        var base = configuration.server
        if let name = configuration.serverName, let range = Self.host(in: base) {
            overrides[name] = base[range].trimmingBrackets
            base.replaceSubrange(range, with: name)
        }
        self.base = base
        func make(read: Duration) -> HTTPClient {
            var options = HTTPClient.Configuration()
            options.timeout.connect = TimeAmount(settings.connectTimeout)
            options.timeout.read = TimeAmount(read)
            options.timeout.write = TimeAmount(settings.requestTimeout)
            options.redirectConfiguration = .disallow
            options.httpVersion = .http1Only
            // A watch holds a connection, and there is one a kind.
            options.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 64
            // Tried again here, where somebody hears of it.
            options.connectionPool.retryConnectionEstablishment = false
            options.dnsOverride = overrides
            return HTTPClient(eventLoopGroupProvider: .singleton, configuration: options)
        }
        http = make(read: settings.requestTimeout)
        watching = make(read: settings.watchSilence)
    }

    deinit {
        // Both go on existing until they are closed; an error says that they were closed before.
        http.shutdown { _ in }
        watching.shutdown { _ in }
    }

    /// Ends all requests and watches.
    public func close() async {
        // The only error says that it was closed before.
        try? await http.shutdown()
        try? await watching.shutdown()
    }

    private static func host(in server: String) -> Range<String.Index>? {
        guard let start = server.range(of: "://")?.upperBound else { return nil }
        let rest = server[start...]
        if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") { return start..<rest.index(after: end) }
        return start..<(rest.firstIndex { $0 == ":" || $0 == "/" } ?? rest.endIndex)
    }

    // MARK: Requests

    struct Request: Sendable {
        var method: HTTPMethod = .GET
        var path: String
        var query: [(name: String, value: String)] = []
        var body: (type: String, bytes: [UInt8])?
        /// For errors: `list pods`.
        var what: String
    }

    /// - Returns: The answer, which is a JSON value.
    func send(_ request: Request) async throws(KubernetesError) -> DocumentTree {
        do {
            return try await withDeadline(settings.requestTimeout, doing: request.what) {
                do {
                    return try await self.attempt(request)
                } catch let error as KubernetesError where error.code == .unauthorized {
                    // The token may have been renewed between reading it and its arrival.
                    await self.access.wasRefused()
                    return try await self.attempt(request)
                }
            }
        } catch {
            throw KubernetesError(error, doing: request.what)
        }
    }

    private func attempt(_ request: Request) async throws -> DocumentTree {
        let deadline = NIODeadline.now() + TimeAmount(settings.requestTimeout)
        let response = try await http.execute(try await prepare(request), deadline: deadline)
        return try await read(response, request.what)
    }

    private func read(_ response: HTTPClientResponse, _ what: String) async throws -> DocumentTree {
        let isGood = (200..<300).contains(response.status.code)
        let body = try await response.body.collect(upTo: isGood ? settings.maximumAnswer : 1 << 20)
        let bytes = Array(body.readableBytesView)
        guard isGood else {
            // What a proxy says of itself is no JSON, and the status says enough.
            let status = try? DocumentTree(json: bytes).root
            throw KubernetesError(
                httpStatus: Int(response.status.code), body: status,
                retryAfter: response.headers.first(name: "Retry-After").flatMap { Int($0) }, doing: what)
        }
        do {
            return try DocumentTree(json: bytes)
        } catch {
            throw KubernetesError(
                .badAnswer, "the answer is no JSON", cause: "\(error), to \(what)",
                hint: "what answers at \(configuration.server) may be no API server")
        }
    }

    private func prepare(_ request: Request) async throws(KubernetesError) -> HTTPClientRequest {
        let pass = try await access.pass()
        var url = base + request.path
        for (index, item) in request.query.enumerated() {
            url += "\(index == 0 ? "?" : "&")\(item.name)=\(Self.escaped(item.value))"
        }
        var result = HTTPClientRequest(url: url)
        result.method = request.method
        result.tlsConfiguration = pass.tls
        result.headers.add(name: "Accept", value: "application/json")
        result.headers.add(name: "User-Agent", value: settings.fieldManager)
        if let token = pass.token { result.headers.add(name: "Authorization", value: "Bearer \(token)") }
        if let body = request.body {
            result.headers.add(name: "Content-Type", value: body.type)
            result.body = .bytes(ByteBuffer(bytes: body.bytes))
        }
        return result
    }

    /// RFC 3986: what is not unreserved goes as its bytes.
    static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let hex = String(byte, radix: 16, uppercase: true)
                result += hex.count == 1 ? "%0\(hex)" : "%\(hex)"
            }
        }
        return result
    }

    // MARK: Watches

    /// Opens a stream and hands its lines on as they come, each of them a JSON value. Returns when the server ends it.
    func stream(
        _ request: Request, _ line: (DocumentTree) async throws -> Void
    ) async throws(KubernetesError) {
        do {
            let response = try await open(request)
            var lines = LineSplitter(limit: settings.maximumEvent)
            for try await chunk in response.body {
                try lines.add(chunk.readableBytesView)
                while let bytes = lines.next() {
                    do {
                        try await line(try DocumentTree(json: bytes))
                    } catch let error as JSONProblem {
                        throw KubernetesError(.badAnswer, "an event is no JSON", cause: "\(error), to \(request.what)")
                    }
                }
            }
        } catch {
            throw KubernetesError(error, doing: request.what)
        }
    }

    private func open(_ request: Request) async throws -> HTTPClientResponse {
        var isSecondTry = false
        while true {
            let response = try await watching.execute(
                try await prepare(request), deadline: .now() + TimeAmount(settings.requestTimeout))
            if response.status == .ok { return response }
            do {
                _ = try await withDeadline(settings.requestTimeout, doing: request.what) {
                    try await self.read(response, request.what)
                }
                throw KubernetesError(.badAnswer, "a watch was answered with \(response.status.code)")
            } catch let error as KubernetesError where error.code == .unauthorized && !isSecondTry {
                await access.wasRefused()
                isSecondTry = true
            }
        }
    }
}

extension String.SubSequence {
    /// An IPv6 address without the brackets of a URL.
    fileprivate var trimmingBrackets: String { hasPrefix("[") ? String(dropFirst().dropLast()) : String(self) }
}

extension TimeAmount {
    init(_ duration: Duration) { self = .nanoseconds(Int64(duration / .nanoseconds(1))) }
}
