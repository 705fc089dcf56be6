import Glibc
import LinuxNetwork
import Logging
import Synchronization
import Testing

@testable import Observability

@Suite("Log output")
struct LogOutputTests {
    struct Failure: Error, CustomStringConvertible { let description = "it broke" }

    func lines(_ format: LogFormat, filter: LogFilter = LogFilter(.info), _ body: (Logger, LogOutput) -> Void) throws
        -> [String]
    {
        let path = temporaryPath("log")
        defer { unlink(path) }
        let output = try LogOutput(format: format, filter: filter, sink: .file(path))
        body(Logger(label: "xds.client") { output.handler(label: $0) }, output)
        #expect(output.close(milliseconds: 5000))
        return (contents(path) ?? "").split(separator: "\n").map(String.init)
    }

    /// A line without its time, which differs.
    func rest(_ line: String) -> String { String(line.dropFirst("2024-05-04T09:59:05.028709Z".count)) }

    @Test("text: columns, fields sorted and quoted")
    func text() throws {
        let lines = try lines(.text) { logger, _ in
            logger.info("started", metadata: ["port": "15012", "address": "10.0.0.1"])
            logger.warning("odd \u{1b}[0m")
            logger.error("failed", error: Failure(), metadata: [:])
            logger.debug("not written")
        }
        #expect(lines.count == 3)
        #expect(rest(lines[0]) == "\tinfo\txds.client\tstarted\taddress=\"10.0.0.1\" port=\"15012\"")
        #expect(rest(lines[1]) == "\twarn\txds.client\todd \\u{1b}[0m")
        #expect(rest(lines[2]) == "\terror\txds.client\tfailed\terror=\"it broke\"")
        #expect(lines[0].wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\t.*/) != nil)
    }

    @Test("JSON: one object a line")
    func json() throws {
        let lines = try lines(.json) { logger, _ in
            var logger = logger
            logger[metadataKey: "node"] = "n1"
            logger.notice("hello", metadata: ["k": "v"])
        }
        #expect(lines.count == 1)
        #expect(lines[0].hasPrefix(#"{"level":"info","time":""#))
        #expect(lines[0].hasSuffix(#","scope":"xds.client","message":"hello","k":"v","node":"n1"}"#))
    }

    @Test("the level can be changed while loggers exist; a logger's own level goes before it")
    func levels() throws {
        let lines = try lines(.text) { logger, output in
            logger.debug("1")
            output.setFilter(LogFilter(.debug))
            logger.debug("2")
            var own = logger
            own.logLevel = .error
            own.info("3")
            logger.info("4")
        }
        #expect(lines.map { $0.last } == ["2", "4"])
    }

    @Test(
        "filters",
        arguments: [
            ("info", "a", Logger.Level.info), ("info,xds=debug", "xds", .debug),
            ("info,xds=debug", "xds.client", .debug),
            ("info,xds=debug", "xds::client", .debug), ("info,xds=debug", "xdsclient", .info),
            ("xds=debug, xds.client = error", "xds.client.deep", .error), ("warn", "a", .warning),
            ("a=off", "a", .critical),
            ("", "a", .info),
        ])
    func filters(text: String, label: String, level: Logger.Level) throws {
        let filter = try #require(LogFilter(text))
        #expect(filter.level(for: label) == level)
    }

    @Test("who writes without a logger is told the level of its label, now and at each change")
    func followers() throws {
        let output = try LogOutput(filter: LogFilter(.info), sink: .standardError)
        let told = Mutex<[Logger.Level]>([])
        output.follow("access") { level in told.withLock { $0.append(level) } }
        output.setFilter(try #require(LogFilter("info,access=debug")))
        output.setFilter(try #require(LogFilter("warn")))
        #expect(told.withLock { $0 } == [.info, .debug, .warning])
        output.setInitialFilter(LogFilter(.error))
        output.setFilter(LogFilter(.trace))
        #expect(output.initialFilter == LogFilter(.error))
    }

    @Test("a level nobody knows is refused and changes nothing")
    func badFilter() throws {
        #expect(LogFilter("loud") == nil)
        var filter = try #require(LogFilter("warn,a=debug"))
        let before = filter
        let added = filter.add("info,b=loud")
        #expect(!added && filter == before)
        #expect(filter.description == "warn,a=debug")
    }
}
