import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Observability

@Suite("HTTP endpoint")
struct HTTPEndpointTests {
    struct Failure: Error, CustomStringConvertible { let description = "the handler broke" }

    static let routes =
        [
            HTTPRoute("GET", "/hello") { _ in .text("hello\n") },
            HTTPRoute("POST", "/echo") { request in
                HTTPReply(contentType: "application/octet-stream", body: request.body)
            },
            HTTPRoute("GET", "/query") { request in
                .text(request.query.map { "\($0.name)=\($0.value ?? "-")" }.joined(separator: " "))
            },
            HTTPRoute("GET", "/fails") { _ in throw Failure() },
            HTTPRoute("GET", "/large") { _ in .text(String(repeating: "x", count: 2_000_000)) },
            HTTPRoute("GET", "/both") { _ in .text("get") },
            HTTPRoute("POST", "/both") { _ in .text("post") },
        ]

    func withEndpoint(
        _ routes: [HTTPRoute] = routes, limits: HTTPEndpoint.Limits = .init(), compressing: Bool = false,
        _ body: (Int) async throws -> Void
    ) async throws {
        // One event loop, so that connections are admitted in the order they came.
        let endpoint = try await HTTPEndpoint.start(
            on: [("127.0.0.1", 0)], routes: routes, limits: limits, compressing: compressing,
            group: MultiThreadedEventLoopGroup.singleton.next())
        do {
            try await body(try #require(endpoint.addresses.first?.port))
        } catch {
            await endpoint.close()
            throw error
        }
        await endpoint.close()
    }

    /// Sends a request as it is and reads the whole answer.
    func ask(_ port: Int, _ request: String, finish: Bool = false) async throws -> String {
        let client = try RawClient(port: port)
        client.send(request)
        if finish { client.finishSending() }
        return try #require(await client.readToEnd())
    }

    func get(_ port: Int, _ target: String, method: String = "GET", headers: String = "") async throws -> String {
        try await ask(port, "\(method) \(target) HTTP/1.1\r\nHost: x\r\n\(headers)\r\n")
    }

    func status(_ answer: String) -> String {
        String(answer.prefix { $0 != "\r\n" }.dropFirst("HTTP/1.1 ".count).prefix(3))
    }
    func body(_ answer: String) -> String {
        answer.firstRange(of: "\r\n\r\n").map { String(answer[$0.upperBound...]) } ?? ""
    }

    @Test("answers, and says how long the body is and that it closes")
    func simple() async throws {
        try await withEndpoint { port in
            try await #expect(
                get(port, "/hello")
                    == "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 6\r\n"
                    + "connection: close\r\n\r\nhello\n")
        }
    }

    @Test("HEAD gets the same without the body")
    func head() async throws {
        try await withEndpoint { port in
            let answer = try await get(port, "/hello", method: "HEAD")
            #expect(status(answer) == "200" && answer.contains("content-length: 6\r\n") && body(answer).isEmpty)
        }
    }

    @Test("unknown path, wrong method, failing handler")
    func errors() async throws {
        try await withEndpoint { port in
            try await #expect(status(get(port, "/nowhere")) == "404")
            try await #expect(status(get(port, "/hello/")) == "404")
            let wrong = try await get(port, "/hello", method: "POST", headers: "Content-Length: 0\r\n")
            #expect(status(wrong) == "405" && wrong.contains("allow: GET, HEAD\r\n"))
            try await #expect(status(get(port, "/echo")) == "405")
            try await #expect(get(port, "/both").hasSuffix("get"))
            try await #expect(get(port, "/both", method: "POST", headers: "Content-Length: 0\r\n").hasSuffix("post"))
            try await #expect(["400", "405"].contains(status(get(port, "/both", method: "BREW"))))
            let failed = try await get(port, "/fails")
            #expect(status(failed) == "500" && body(failed) == "the handler broke\n")
        }
    }

    @Test("query parameters are decoded")
    func query() async throws {
        try await withEndpoint { port in
            try await #expect(
                body(get(port, "/query?level=a%3Db&reset&x=1+2&empty=")) == "level=a=b reset=- x=1 2 empty=")
            try await #expect(body(get(port, "/query")).isEmpty)
            try await #expect(status(get(port, "/query?a=%zz")) == "400")
            try await #expect(status(get(port, "/query?a=%ff")) == "400")
            try await #expect(status(get(port, "*")) == "400")
        }
    }

    @Test("a client may close its side after the request")
    func halfClose() async throws {
        try await withEndpoint { port in
            let answer = try await ask(port, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", finish: true)
            #expect(body(answer).utf8.count == 2_000_000)
        }
    }

    @Test("a client that closes in the middle of a request is let go")
    func cutShort() async throws {
        try await withEndpoint { port in
            try await #expect(status(ask(port, "GET /hello HT", finish: true)) != "200")
            try await #expect(status(get(port, "/hello")) == "200")
        }
    }

    @Test("bodies, in one piece and in chunks, up to the limit")
    func bodies() async throws {
        var limits = HTTPEndpoint.Limits()
        limits.bodyBytes = 1000
        try await withEndpoint(limits: limits) { port in
            func post(_ headers: String, _ body: String) async throws -> String {
                try await ask(port, "POST /echo HTTP/1.1\r\nHost: x\r\n\(headers)\r\n\r\n\(body)")
            }
            let full = String(repeating: "b", count: 1000)
            try await #expect(body(post("Content-Length: 1000", full)) == full)
            try await #expect(body(post("Transfer-Encoding: chunked", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")) == "abcde")
            try await #expect(status(post("Content-Length: 1001", "")) == "413")
            let chunk = "3e8\r\n\(full)\r\n"
            try await #expect(status(post("Transfer-Encoding: chunked", chunk + chunk + "0\r\n\r\n")) == "413")
            try await #expect(status(post("Content-Length: x", "")) == "400")
            let expecting = try await post("Content-Length: 2\r\nExpect: 100-continue", "hi")
            #expect(expecting.hasPrefix("HTTP/1.1 100 ") && body(expecting).hasSuffix("hi"))
        }
    }

    @Test("a header that does not come in time")
    func slowHeader() async throws {
        var limits = HTTPEndpoint.Limits()
        limits.headerTimeout = .milliseconds(200)
        try await withEndpoint(limits: limits) { port in
            let start = ContinuousClock.now
            try await #expect(status(ask(port, "GET /hello HTTP/1.1\r\nHost: x\r\n")) == "408")
            try await #expect(status(ask(port, "")) == "408")
            let waited = ContinuousClock.now - start
            #expect(waited >= .milliseconds(400) && waited < .seconds(30))
        }
        #expect(HTTPEndpoint.Limits().headerTimeout == .seconds(2))
    }

    @Test("a header beyond the limit, finished or not")
    func oversizedHeader() async throws {
        try await withEndpoint { port in
            let field = "X-Long: \(String(repeating: "a", count: 9000))\r\n"
            try await #expect(status(get(port, "/hello", headers: field)) == "431")
            try await #expect(status(ask(port, "GET /hello HTTP/1.1\r\n\(field)")) == "431")
            try await #expect(
                status(ask(port, "GET /\(String(repeating: "a", count: 9000)) HTTP/1.1\r\n\r\n")) == "431")
            let most = "X-Long: \(String(repeating: "a", count: 8000))\r\n"
            try await #expect(status(get(port, "/hello", headers: most)) == "200")
        }
    }

    @Test(
        "what is no HTTP",
        arguments: [
            "\u{16}\u{3}\u{1}garbage\r\n\r\n", "GET\r\n\r\n", "GET /hello HTTP/9.9\r\n\r\n",
            "\r\n\r\n\r\nxx yy zz\r\n\r\n",
        ])
    func garbage(_ text: String) async throws {
        try await withEndpoint { port in
            try await #expect(status(ask(port, text)) == "400")
            try await #expect(status(get(port, "/hello")) == "200")
        }
    }

    @Test("one request a connection: what follows it is not answered")
    func pipelining() async throws {
        try await withEndpoint { port in
            let answer = try await ask(
                port, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(answer.ranges(of: "HTTP/1.1 200").count == 1)
        }
    }

    @Test("no more connections than the limit, and room again when they are gone")
    func connectionLimit() async throws {
        var limits = HTTPEndpoint.Limits()
        limits.connections = 3
        limits.headerTimeout = .seconds(30)
        try await withEndpoint(limits: limits) { port in
            let held = try (0..<3).map { _ in try RawClient(port: port) }
            for client in held { #expect(client.send("GET /hello")) }
            // The server has taken the three before it sees a fourth.
            let refused = try RawClient(port: port)
            refused.send("GET /hello HTTP/1.1\r\n\r\n")
            #expect(await refused.readToEnd()?.isEmpty == true)
            for client in held { #expect(client.send(" HTTP/1.1\r\n\r\n")) }
            for client in held { #expect(status(try #require(await client.readToEnd())) == "200") }
            #expect(try await eventuallyAnswers(port))
        }
    }

    /// Whether a request is answered within some seconds; until then it may be refused.
    func eventuallyAnswers(_ port: Int) async throws -> Bool {
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            if status(try await get(port, "/hello")) == "200" { return true }
            await Task.yield()
        }
        return false
    }

    @Test("a client that does not read is cut off")
    func slowReader() async throws {
        var limits = HTTPEndpoint.Limits()
        limits.connectionTimeout = .milliseconds(300)
        limits.connections = 1
        let routes = Self.routes + [HTTPRoute("GET", "/huge") { _ in .text(String(repeating: "x", count: 50_000_000)) }]
        try await withEndpoint(routes, limits: limits) { port in
            let client = try RawClient(port: port)
            client.send("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
            // It holds the only place there is until it is cut off.
            let start = ContinuousClock.now
            #expect(try await eventuallyAnswers(port))
            #expect(ContinuousClock.now - start >= .milliseconds(200))
            client.finishSending()
        }
    }

    @Test("all addresses or none")
    func binding() async throws {
        let first = try await HTTPEndpoint.start(on: [("127.0.0.1", 0), ("::1", 0)], routes: Self.routes)
        #expect(first.addresses.count == 2)
        let port = try #require(first.addresses.first?.port)
        await #expect(throws: (any Error).self) {
            try await HTTPEndpoint.start(on: [("127.0.0.1", 0), ("127.0.0.1", port)], routes: Self.routes)
        }
        await first.close()
        #expect(throws: (any Error).self) { try RawClient(port: port) }
        let again = try await HTTPEndpoint.start(on: [("127.0.0.1", port)], routes: Self.routes)
        await again.close()
    }

    // MARK: Standard routes

    @Test("metrics at both paths; the content type follows what the client accepts")
    func metrics() async throws {
        let registry = MetricsRegistry()
        try registry.counter("c", "C").single.add(1)
        try await withEndpoint(HTTPRoute.metrics(registry)) { port in
            for path in ["/metrics", "/stats/prometheus"] {
                let plain = try await get(port, path)
                #expect(plain.contains("content-type: text/plain; charset=utf-8\r\n"))
                #expect(body(plain) == "# HELP c C\n# TYPE c counter\nc_total 1\n# EOF\n")
                let open = try await get(
                    port, path, headers: "Accept: text/plain;q=0.5,application/openmetrics-text;version=1.0.0\r\n")
                #expect(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"))
                #expect(body(open) == body(plain))
            }
        }
    }

    @Test("metrics are compressed for who takes that, and only there")
    func compressed() async throws {
        let registry = MetricsRegistry()
        try registry.counter("c", "C").single.add(1)
        try await withEndpoint(HTTPRoute.metrics(registry), compressing: true) { port in
            let plain = try await get(port, "/metrics")
            #expect(!plain.lowercased().contains("content-encoding") && body(plain).hasSuffix("c_total 1\n# EOF\n"))
            let packed = try await get(port, "/metrics", headers: "Accept-Encoding: gzip\r\n")
            #expect(packed.lowercased().contains("content-encoding: gzip\r\n") && !packed.contains("c_total"))
            #expect(status(packed) == "200")
            // Answers to no request, and two answers to one.
            let gzip = "Accept-Encoding: gzip\r\n"
            try await #expect(status(ask(port, "no request\r\n\r\n")) == "400")
            let long = "X: \(String(repeating: "x", count: 20_000))\r\n"
            try await #expect(status(get(port, "/metrics", headers: gzip + long)) == "431")
            let late = try await ask(port, "GET /metrics HTTP/1.1\r\n" + gzip)
            #expect(status(late) == "408")
            let expecting = try await get(port, "/metrics", headers: gzip + "Expect: 100-continue\r\n")
            #expect(expecting.hasPrefix("HTTP/1.1 100 "))
            #expect(expecting.lowercased().contains("content-encoding: gzip\r\n"))
            try await #expect(status(get(port, "/nowhere", headers: gzip)) == "404")
            try await #expect(status(get(port, "/metrics", method: "HEAD", headers: gzip)) == "200")
        }
    }

    @Test("readiness asks each time what is to prove itself")
    func stuck() async throws {
        let answers = Mutex<[[String]]>([[], ["worker ztunnel-1"]])
        let readiness = Readiness()
        let waiting = readiness.pending("state manager")
        let routes = HTTPRoute.readiness(readiness) { answers.withLock { $0.popLast() ?? [] } }
        try await withEndpoint(routes) { port in
            let stuck = try await get(port, "/healthz/ready")
            #expect(body(stuck) == "not ready, pending: state manager, worker ztunnel-1\n" && status(stuck) == "500")
            waiting.done()
            try await #expect(status(get(port, "/healthz/ready")) == "200")
        }
    }

    @Test("readiness")
    func readiness() async throws {
        let readiness = Readiness()
        let first = readiness.pending("state manager")
        let second = readiness.pending("proxy")
        try await withEndpoint(HTTPRoute.readiness(readiness)) { port in
            let waiting = try await get(port, "/healthz/ready")
            #expect(status(waiting) == "500" && body(waiting) == "not ready, pending: proxy, state manager\n")
            first.done()
            second.done()
            let ready = try await get(port, "/healthz/ready")
            #expect(status(ready) == "200" && body(ready) == "ready\n")
            try await #expect(
                status(get(port, "/healthz/ready", method: "POST", headers: "Content-Length: 0\r\n")) == "405")
        }
    }
}
