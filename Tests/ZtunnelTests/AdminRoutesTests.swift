import Logging
import Observability
import Synchronization
import Testing

@testable import Ztunnel

@Suite("Admin server")
struct AdminRoutesTests {
    private final class Flag: Sendable {
        private let value = Atomic<Bool>(false)
        func raise() { value.store(true, ordering: .relaxed) }
        var isRaised: Bool { value.load(ordering: .relaxed) }
    }

    private func ask(
        _ method: String, _ path: String, _ query: [(name: String, value: String?)] = [], _ logs: LogOutput,
        quit: @escaping @Sendable () -> Void = {}
    ) async throws -> HTTPReply {
        let routes = AdminRoutes.all(dump: { Array("{}".utf8) }, logs: logs, quit: quit)
        let route = try #require(routes.first { $0.method == method && $0.path == path })
        return try await route.handle(HTTPRequest(method: method, path: path, query: query))
    }

    private func text(_ reply: HTTPReply) -> String { String(decoding: reply.body, as: UTF8.self) }

    private func logs() throws -> LogOutput { try LogOutput(filter: LogFilter(.info), sink: .standardError) }

    @Test("levels are told, added to what is in force, and forgotten")
    func levels() async throws {
        let logs = try logs()
        #expect(text(try await ask("POST", "/logging", [], logs)) == "current log level is info\n")
        let added = try await ask("POST", "/logging", [("level", "xds=debug,access=off")], logs)
        #expect(text(added) == "current log level is info,access=off,xds=debug\n")
        let more = try await ask("POST", "/logging", [("level", "warn")], logs)
        #expect(text(more) == "current log level is warn,access=off,xds=debug\n")
        #expect(logs.currentFilter.level(for: "xds.client") == .debug)
        let reset = try await ask("POST", "/logging", [("reset", nil), ("level", "zds=trace")], logs)
        #expect(text(reset) == "current log level is info,zds=trace\n")
    }

    @Test("a module without a level, and the separator of old help texts, are refused and change nothing")
    func badLevels() async throws {
        let logs = try logs()
        for level in ["xds", "xds:debug", "xds=loud", "debug,xds"] {
            let reply = try await ask("POST", "/logging", [("level", level)], logs)
            #expect(reply.status == 400, "\(level)")
        }
        #expect(logs.currentFilter == LogFilter(.info))
    }

    @Test("reading the level by GET is refused with how to do it")
    func get() async throws {
        let reply = try await ask("GET", "/logging", [], try logs())
        #expect(reply.status == 405)
        #expect(reply.headers.contains { $0.name == "allow" && $0.value == "POST" })
        #expect(text(reply).contains("POST /logging?level="))
    }

    @Test("quitting asks for a drain and answers")
    func quit() async throws {
        let flag = Flag()
        let reply = try await ask("POST", "/quitquitquit", [], try logs(), quit: { flag.raise() })
        #expect(text(reply) == "shutdown now\n" && flag.isRaised)
    }

    @Test("there is no heap profiler, and the answer says so")
    func heapProfile() async throws {
        let reply = try await ask("GET", "/debug/pprof/heap", [], try logs())
        #expect(reply.status == 501 && text(reply).contains("no heap profiler"))
    }

    @Test("a CPU profile that cannot be made says what to ask for")
    func cpuProfile() async throws {
        for (name, value) in [("seconds", "0"), ("seconds", "301"), ("seconds", "ten"), ("frequency", "1001")] {
            let reply = try await ask("GET", "/debug/pprof/profile", [(name, value)], try logs())
            #expect(
                reply.status == 400 && text(reply).contains("\(name) is \"\(value)\"; use a whole number from 1 to"))
        }
    }
}
