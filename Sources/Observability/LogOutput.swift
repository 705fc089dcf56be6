import Glibc
import LinuxNetwork
import Logging
import Synchronization

/// Where swift-log's messages go: one bounded queue and one thread, so that no logger ever waits for a slow terminal.
///
/// Text: `time TAB level TAB label TAB message TAB k=v …`; JSON: one object a line.
public final class LogOutput: Sendable {
    struct Line: Sendable {
        let time: Timestamp
        let level: Logger.Level
        let label: String
        let message: String
        let fields: [(String, String)]
    }

    private let writer: LineWriter<Line>
    private let filter: Mutex<LogFilter>
    private let initial: Mutex<LogFilter>
    private let followers = Mutex<[(label: String, notify: @Sendable (Logger.Level) -> Void)]>([])

    /// - Throws: when the sink cannot be opened.
    public init(
        format: LogFormat = .text, filter: LogFilter = LogFilter(.info), sink: LogSink = .standardOutput,
        capacity: Int = 10_000
    ) throws(SystemError) {
        self.filter = Mutex(filter)
        initial = Mutex(filter)
        writer = try LineWriter(sink: sink, capacity: capacity) { line, bytes in
            let write = format == .text ? LogLine.text : LogLine.json
            write(&bytes, line.time, line.level.shortName, line.label, [], line.message) { body in
                for (key, value) in line.fields { body(key, .string(value)) }
            }
        }
    }

    /// Makes this the destination of every logger of the process; once, before the first logger is made.
    /// - Returns: the output, to be closed at the end so that the last lines are not lost.
    public static func bootstrap(
        format: LogFormat = .text, level: Logger.Level = .info, sink: LogSink = .standardOutput
    ) throws(SystemError) -> LogOutput {
        let output = try LogOutput(format: format, filter: LogFilter(level), sink: sink)
        LoggingSystem.bootstrap { output.handler(label: $0) }
        // As global as the logging system is: exit() anywhere still writes what was logged before it.
        exitOutput.withLock { $0 = output }
        atexit { LogOutput.exitOutput.withLock { $0 }?.flush(milliseconds: 500) }
        return output
    }

    private static let exitOutput = Mutex<LogOutput?>(nil)

    /// A handler of its own, for a logger that is made without ``bootstrap(format:level:sink:)``.
    public func handler(label: String) -> any LogHandler { Handler(label: label, output: self) }

    /// What is let through, now and from now on, for loggers that exist already as well.
    public var currentFilter: LogFilter { filter.withLock { $0 } }
    /// What was asked for at the start, to which an operator can go back.
    public var initialFilter: LogFilter { initial.withLock { $0 } }
    public func setInitialFilter(_ new: LogFilter) {
        initial.withLock { $0 = new }
        setFilter(new)
    }
    public func setFilter(_ new: LogFilter) {
        filter.withLock { $0 = new }
        for follower in followers.withLock({ $0 }) { follower.notify(new.level(for: follower.label)) }
    }

    /// Tells the level in force for a label, now and at each change: for what writes lines without a logger.
    public func follow(_ label: String, _ notify: @escaping @Sendable (Logger.Level) -> Void) {
        followers.withLock { $0.append((label, notify)) }
        notify(currentFilter.level(for: label))
    }

    /// Lines that were not written.
    public var dropped: UInt64 { writer.dropped }

    /// Opens the file again, as log rotation wants on SIGHUP.
    public func reopen() { writer.reopen() }

    /// Waits until what was logged before is written; `false` when that took longer.
    @discardableResult
    public func flush(milliseconds: Int) -> Bool { writer.flush(milliseconds: milliseconds) }

    /// Writes what is left for as long as is allowed; `false` when some was left.
    @discardableResult
    public func close(milliseconds: Int = 1000) -> Bool { writer.close(milliseconds: milliseconds) }

    private struct Handler: LogHandler {
        let label: String
        let output: LogOutput
        var metadata: Logger.Metadata = [:]
        var metadataProvider: Logger.MetadataProvider?
        /// Set on this logger alone; otherwise the filter decides.
        private var own: Logger.Level?

        init(label: String, output: LogOutput) {
            self.label = label
            self.output = output
        }

        var logLevel: Logger.Level {
            get { own ?? output.filter.withLock { $0.level(for: label) } }
            set { own = newValue }
        }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            var all = metadata
            if let provided = metadataProvider?.get() { all.merge(provided) { _, new in new } }
            if let own = event.metadata { all.merge(own) { _, new in new } }
            var fields = all.sorted { $0.key < $1.key }.map { ($0.key, $0.value.description) }
            if let error = event.error { fields.append(("error", "\(error)")) }
            output.writer.offer(
                Line(
                    time: .now, level: event.level, label: label, message: event.message.description, fields: fields))
        }
    }
}
