import Glibc
import LinuxNetwork
import Testing

@testable import Observability

@Suite("Access log")
struct AccessLogTests {
    // As the programs do: a reader that goes away is an error of write(2).
    init() { signal(SIGPIPE, SIG_IGN) }

    static let time = Timestamp(microseconds: 1_714_816_745_028_709)

    static let inbound = AccessRecord(
        time: time, kind: .complete,
        source: .init(
            address: "10.240.0.1:33644", workload: "shell-1", namespace: "default",
            identity: "spiffe://cluster.local/ns/default/sa/default", cluster: "Kubernetes"),
        destination: .init(
            address: "10.244.1.1:15008", hboneAddress: "10.244.1.1:80", service: "echo.default.svc.cluster.local",
            workload: "echo-1", namespace: "default", identity: "spiffe://cluster.local/ns/default/sa/echo"),
        direction: .inbound, bytesSent: 111, bytesReceived: 1162, durationMilliseconds: 6)

    static let denied = AccessRecord(
        time: time, kind: .complete, source: .init(address: "10.0.0.1:1"), destination: .init(address: "10.0.0.2:80"),
        direction: .inbound, error: "connection closed due to policy rejection: explicitly denied by: ns/p")

    static let early = AccessRecord(
        time: time, kind: .failed, source: .init(address: "10.0.0.1:1", workload: "not written"),
        destination: .init(address: "10.0.0.2:80", service: "not written"), direction: .outbound,
        error: "no healthy upstream: 10.0.0.2:80")

    static let opened = AccessRecord(
        time: time, kind: .opened, source: .init(address: "10.0.0.1:1"), destination: .init(address: "10.0.0.2:80"),
        direction: .outbound,
        spans: [.init("proxy", fields: [("wl", "ns/a")]), .init("outbound", fields: [("id", "ab12")])])

    @Test("text")
    func text() {
        #expect(
            AccessLog.line(Self.inbound, as: .text)
                == "2024-05-04T09:59:05.028709Z\tinfo\taccess\tconnection complete\t"
                + "src.addr=10.240.0.1:33644 src.workload=\"shell-1\" src.namespace=\"default\" "
                + "src.identity=\"spiffe://cluster.local/ns/default/sa/default\" src.cluster=\"Kubernetes\" "
                + "dst.addr=10.244.1.1:15008 dst.hbone_addr=10.244.1.1:80 "
                + "dst.service=\"echo.default.svc.cluster.local\" dst.workload=\"echo-1\" dst.namespace=\"default\" "
                + "dst.identity=\"spiffe://cluster.local/ns/default/sa/echo\" direction=\"inbound\" "
                + "bytes_sent=111 bytes_recv=1162 duration=\"6ms\"\n")
        #expect(
            AccessLog.line(Self.denied, as: .text)
                == "2024-05-04T09:59:05.028709Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:1 "
                + "dst.addr=10.0.0.2:80 direction=\"inbound\" bytes_sent=0 bytes_recv=0 duration=\"0ms\" "
                + "error=\"connection closed due to policy rejection: explicitly denied by: ns/p\"\n")
        #expect(
            AccessLog.line(Self.early, as: .text)
                == "2024-05-04T09:59:05.028709Z\twarn\taccess\tconnection failed\tsrc.addr=10.0.0.1:1 "
                + "dst.addr=10.0.0.2:80 direction=\"outbound\" error=\"no healthy upstream: 10.0.0.2:80\"\n")
        #expect(
            AccessLog.line(Self.opened, as: .text)
                == "2024-05-04T09:59:05.028709Z\tdebug\taccess:proxy{wl=ns/a}:outbound{id=ab12}\tconnection opened\t"
                + "src.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 direction=\"outbound\"\n")
    }

    @Test("JSON")
    func json() {
        #expect(
            AccessLog.line(Self.inbound, as: .json)
                == #"{"level":"info","time":"2024-05-04T09:59:05.028709Z","scope":"access","#
                + #""message":"connection complete","src.addr":"10.240.0.1:33644","src.workload":"shell-1","#
                + #""src.namespace":"default","src.identity":"spiffe://cluster.local/ns/default/sa/default","#
                + #""src.cluster":"Kubernetes","dst.addr":"10.244.1.1:15008","dst.hbone_addr":"10.244.1.1:80","#
                + #""dst.service":"echo.default.svc.cluster.local","dst.workload":"echo-1","dst.namespace":"default","#
                + #""dst.identity":"spiffe://cluster.local/ns/default/sa/echo","direction":"inbound","bytes_sent":111,"#
                + #""bytes_recv":1162,"duration":"6ms"}"# + "\n")
        #expect(
            AccessLog.line(Self.opened, as: .json)
                == #"{"level":"debug","time":"2024-05-04T09:59:05.028709Z","scope":"access","#
                + #""message":"connection opened","src.addr":"10.0.0.1:1","dst.addr":"10.0.0.2:80","#
                + #""direction":"outbound","proxy":{"wl":"ns/a"},"outbound":{"id":"ab12"}}"# + "\n")
    }

    @Test("the trace that ties both ends together is the span of the direction")
    func trace() {
        var record = Self.inbound
        record.trace = .init(high: 0x0123_4567_89ab_cdef, low: 1)
        let id = "0123456789abcdef0000000000000001"
        #expect(
            AccessLog.line(record, as: .text).contains("\tinfo\taccess:inbound{id=\(id)}\tconnection complete\t"))
        #expect(AccessLog.line(record, as: .json).hasSuffix(#","inbound":{"id":"\#(id)"}}"# + "\n"))
    }

    @Test("lines below the level are passed over, and are not lost ones")
    func level() throws {
        let path = temporaryPath("level")
        defer { unlink(path) }
        let log = try AccessLog(sink: .file(path))
        func write() { for line in [Self.inbound, Self.denied, Self.early, Self.opened] { log.write(line) } }
        write()
        log.setLevel(.debug)
        #expect(log.isWritten(.debug))
        write()
        log.setLevel(.error)
        write()
        log.setLevel(.critical)
        write()
        #expect(log.close(milliseconds: 5000))
        #expect(log.written == 3 + 4 + 1 && log.dropped == 0)
        #expect((contents(path) ?? "").ranges(of: "connection opened").count == 1)
    }

    @Test("what a peer sends cannot break a line or forge another")
    func injection() {
        var record = Self.denied
        record.error = "a\n2024\tinfo \"x\" \\ \u{1b}[31m \u{85} \u{2028} é"
        let text = AccessLog.line(record, as: .text)
        #expect(text.hasSuffix(#"error="a\n2024\tinfo \"x\" \\ \u{1b}[31m \u{85} \u{2028} é""# + "\n"))
        #expect(text.filter { $0 == "\n" }.count == 1 && text.filter { $0 == "\t" }.count == 4)
        let json = AccessLog.line(record, as: .json)
        #expect(json.hasSuffix(#""error":"a\n2024\tinfo \"x\" \\ \u001b[31m \u0085 \u2028 é"}"# + "\n"))
        record.destination.hboneAddress = "a b\n"
        #expect(AccessLog.line(record, as: .text).contains(#"dst.hbone_addr=a b\n direction"#))
    }

    // MARK: Writing

    func record(_ number: Int) -> AccessRecord {
        AccessRecord(
            time: Self.time, kind: .complete, source: .init(address: "10.0.0.1:\(number)"),
            destination: .init(address: "10.0.0.2:80"), direction: .outbound)
    }

    @Test("every line is written, in order, and close writes what is left")
    func order() throws {
        let path = temporaryPath("order.log")
        defer { unlink(path) }
        let log = try AccessLog(sink: .file(path))
        for number in 0..<1000 { log.write(record(number)) }
        #expect(log.flush(milliseconds: 5000))
        #expect(log.written == 1000)
        for number in 1000..<1100 { log.write(record(number)) }
        #expect(log.close(milliseconds: 5000))
        let lines = (contents(path) ?? "").split(separator: "\n")
        #expect(lines.count == 1100 && log.dropped == 0)
        for (number, line) in lines.enumerated() { #expect(line.contains("src.addr=10.0.0.1:\(number) ")) }
        log.write(record(0))
        #expect(log.dropped == 1)
    }

    @Test("many writers at once lose nothing")
    func concurrent() async throws {
        let path = temporaryPath("concurrent.log")
        defer { unlink(path) }
        let log = try AccessLog(sink: .file(path))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask { for number in 0..<1000 { log.write(record(number)) } }
            }
        }
        #expect(log.close(milliseconds: 5000))
        let lines = (contents(path) ?? "").split(separator: "\n")
        #expect(UInt64(lines.count) == log.written && log.written + log.dropped == 4000)
        #expect(log.dropped == 0)
        #expect(lines.allSatisfy { $0.hasPrefix("2024-05-04T") && $0.hasSuffix("\"0ms\"") })
    }

    @Test("a sink that takes nothing stops nobody: lines are dropped and counted, and go on when it is read")
    func blockedSink() throws {
        let pipe = try Pipe()
        pipe.shrink()
        let log = try AccessLog(sink: .descriptor(pipe.input), capacity: 100)
        let start = ContinuousClock.now
        for number in 0..<5000 { log.write(record(number)) }
        #expect(ContinuousClock.now - start < .seconds(10))
        // 100 may wait, 64 be in the writer's hands, and a page of the pipe holds fewer than 64 more.
        #expect(log.dropped >= 5000 - 300)
        var text = ""
        let deadline = start + .seconds(20)
        while log.written + log.dropped < 5000, ContinuousClock.now < deadline { text += pipe.read(milliseconds: 20) }
        text += pipe.read(milliseconds: 20)
        #expect(UInt64(text.split(separator: "\n").count) == log.written)
        #expect(text.contains("10.0.0.1:0 "))
        log.write(record(6000))
        #expect(log.flush(milliseconds: 2000))
        #expect(pipe.read().contains("10.0.0.1:6000 "))
        #expect(log.close(milliseconds: 1000))
    }

    @Test("a close with a deadline ends although the sink is stuck")
    func stuckClose() throws {
        let pipe = try Pipe()
        pipe.shrink()
        let log = try AccessLog(sink: .descriptor(pipe.input), capacity: 1000)
        for number in 0..<1000 { log.write(record(number)) }
        let start = ContinuousClock.now
        #expect(!log.close(milliseconds: 100))
        #expect(ContinuousClock.now - start < .seconds(10))
    }

    @Test("a reader that is gone is an error that can be seen, and no end of the process")
    func readerGone() throws {
        signal(SIGPIPE, SIG_IGN)
        let pipe = try Pipe()
        pipe.closeReader()
        let log = try AccessLog(sink: .descriptor(pipe.input))
        log.write(record(1))
        #expect(log.flush(milliseconds: 2000))
        #expect(log.lastError?.code == EPIPE && log.dropped == 1)
        #expect(log.close(milliseconds: 1000))
    }

    @Test("a file that was moved away is opened again when asked")
    func reopen() throws {
        let path = temporaryPath("rotate.log")
        let old = path + ".1"
        defer {
            unlink(path)
            unlink(old)
        }
        let log = try AccessLog(sink: .file(path))
        log.write(record(1))
        #expect(log.flush(milliseconds: 2000))
        #expect(rename(path, old) == 0)
        log.write(record(2))
        #expect(log.flush(milliseconds: 2000))
        #expect(contents(path) == nil)
        log.reopen()
        log.write(record(3))
        #expect(log.close(milliseconds: 2000))
        #expect(contents(old)?.split(separator: "\n").count == 2)
        #expect(contents(path)?.split(separator: "\n").count == 1)
    }

    @Test("a path that cannot be opened again leaves the old file in use")
    func failedReopen() throws {
        let folder = temporaryPath("folder")
        #expect(mkdir(folder, 0o700) == 0)
        let path = folder + "/a.log"
        let log = try AccessLog(sink: .file(path))
        #expect(rename(folder, folder + "-moved") == 0)
        defer {
            unlink(folder + "-moved/a.log")
            rmdir(folder + "-moved")
        }
        log.reopen()
        #expect(log.flush(milliseconds: 2000))
        #expect(log.lastError?.code == ENOENT)
        log.write(record(1))
        #expect(log.close(milliseconds: 2000))
        #expect(contents(folder + "-moved/a.log")?.contains("10.0.0.1:1 ") == true)
    }

    @Test("a sink that cannot be opened is told at once")
    func unopenable() {
        #expect {
            try AccessLog(sink: .file("/nowhere/at/all/access.log"))
        } throws: {
            ($0 as? SystemError)?.code == ENOENT
        }
    }
}
