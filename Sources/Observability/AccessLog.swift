import LinuxNetwork
import Logging
import Synchronization

/// The access log: one line a connection, written by a thread of its own.
///
/// ``write(_:)`` never blocks the data path: records beyond the queue's bound are dropped and counted.
public final class AccessLog: Sendable {
    private let writer: LineWriter<AccessRecord>
    /// The least severe level that is written, as its place in `Logger.Level.allCases`.
    private let threshold = Atomic<Int>(AccessLog.rank(.info))

    /// - Parameters:
    ///   - sink: where the lines go; a file that is not there is made.
    ///   - capacity: how many records may wait to be written.
    /// - Throws: when the sink cannot be opened.
    public init(sink: LogSink, format: LogFormat = .text, capacity: Int = 10_000) throws(SystemError) {
        writer = try LineWriter(sink: sink, capacity: capacity, gatherMilliseconds: 20) { record, bytes in
            AccessLog.render(record, as: format, into: &bytes)
        }
    }

    /// Hands a record over to the writer's thread, or drops it when the queue is full. A record below the level in
    /// force is passed over and does not count as dropped.
    public func write(_ record: AccessRecord) {
        guard isWritten(record.severity) else { return }
        writer.offer(record)
    }

    /// What is written from now on: info as a rule; `debug` adds the lines of connections that open.
    public func setLevel(_ level: Logger.Level) { threshold.store(Self.rank(level), ordering: .relaxed) }

    /// Whether records of this severity are written, to be asked before one is made for nothing.
    public func isWritten(_ level: Logger.Level) -> Bool { Self.rank(level) >= threshold.load(ordering: .relaxed) }

    private static func rank(_ level: Logger.Level) -> Int {
        switch level {
        case .trace: 0
        case .debug: 1
        case .info: 2
        case .notice: 3
        case .warning: 4
        case .error: 5
        case .critical: 6
        }
    }

    /// Records that were not written, because the queue was full or the sink refused them.
    public var dropped: UInt64 { writer.dropped }
    /// Lines that were written.
    public var written: UInt64 { writer.written }
    /// The last failure to open or to write, `nil` after a success.
    public var lastError: SystemError? { writer.lastError }

    /// Opens the file again, as log rotation wants on SIGHUP.
    public func reopen() { writer.reopen() }

    /// Waits until what was handed over before is written; `false` when that took longer.
    @discardableResult
    public func flush(milliseconds: Int) -> Bool { writer.flush(milliseconds: milliseconds) }

    /// Takes no more records and writes the rest for as long as is allowed; `false` when some were left.
    @discardableResult
    public func close(milliseconds: Int) -> Bool { writer.close(milliseconds: milliseconds) }

    /// One line with its newline, as it is written.
    public static func line(_ record: AccessRecord, as format: LogFormat) -> String {
        var bytes: [UInt8] = []
        render(record, as: format, into: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func render(_ record: AccessRecord, as format: LogFormat, into bytes: inout [UInt8]) {
        let write = format == .text ? LogLine.text : LogLine.json
        write(
            &bytes, record.time, record.level, AccessRecord.scope, record.allSpans, record.message,
            record.forEachField)
    }
}
