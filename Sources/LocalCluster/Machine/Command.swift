import CLinux
import Foundation
import Glibc
import LinuxNetwork

/// A program that is run to its end, with its input and both outputs in memory.
public struct Command: Sendable {
    public struct Result: Sendable {
        /// The exit status, or 128 and the number of the signal that ended it.
        public let status: Int32
        public let output: Data
        public let errors: Data

        public var text: String { String(decoding: output, as: UTF8.self) }
    }

    public var arguments: [String]
    public var input = Data()
    public var environment: [String: String] = Launcher.environment()
    /// Path of the network namespace it runs in; the caller's own when `nil`.
    public var namespace: String?
    public var timeout: Duration = .seconds(20)

    public init(_ arguments: [String], namespace: String? = nil) {
        self.arguments = arguments
        self.namespace = namespace
    }

    /// Runs it; a status other than 0 is an error with the command line and what it said.
    @discardableResult
    public static func run(_ arguments: String..., in namespace: String? = nil, input: String = "") throws -> String {
        var command = Command(arguments, namespace: namespace)
        command.input = Data(input.utf8)
        let result = try command.run()
        guard result.status == 0 else { throw command.failure(result) }
        return result.text
    }

    func failure(_ result: Result) -> LocalClusterError {
        let said = String(decoding: result.errors + result.output, as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        return LocalClusterError(
            .command, "`\(arguments.joined(separator: " "))` ended with status \(result.status): \(said.suffix(2000))")
    }

    /// Runs it and returns whatever its status is.
    /// - Throws: When it cannot be started or does not end in time (it is killed then).
    public func run() throws -> Result {
        var arguments = arguments
        arguments[0] = try Launcher.find(arguments[0])
        let toChild = try Pipe()
        toChild.writeWithoutBlocking()
        let fromChild = try Pipe()
        let errorsOfChild = try Pipe()
        let pid = try Launcher.start(
            arguments, environment: environment, namespace: namespace,
            streams: .init(input: toChild.read, output: fromChild.write, errors: errorsOfChild.write))
        let child = ChildProcess(pid: pid, name: arguments[0])
        toChild.closeRead()
        fromChild.closeWrite()
        errorsOfChild.closeWrite()
        let deadline = ContinuousClock.now + timeout
        var output = Data()
        var errors = Data()
        do {
            try exchange(toChild, [(fromChild, { output += $0 }), (errorsOfChild, { errors += $0 })], deadline)
        } catch {
            child.signal(SIGKILL)
            _ = child.wait(within: .seconds(5))
            throw error
        }
        guard let status = child.wait(within: Swift.max(.zero, deadline - .now)) else {
            child.signal(SIGKILL)
            _ = child.wait(within: .seconds(5))
            throw tooLong
        }
        return Result(status: status, output: output, errors: errors)
    }

    private var tooLong: LocalClusterError {
        LocalClusterError(.timeout, "`\(arguments.joined(separator: " "))` did not end within \(timeout)")
    }

    /// Feeds the input and collects the outputs until all are closed.
    private func exchange(
        _ toChild: Pipe, _ outputs: [(pipe: Pipe, take: (Data) -> Void)], _ deadline: ContinuousClock.Instant
    ) throws {
        var rest = input[...]
        if rest.isEmpty { toChild.closeWrite() }
        var buffer = [UInt8](repeating: 0, count: 65536)
        while outputs.contains(where: { $0.pipe.read >= 0 }) {
            let milliseconds = (deadline - .now) / .milliseconds(1)
            guard milliseconds > 0 else { throw tooLong }
            var waits = outputs.map { pollfd(fd: $0.pipe.read, events: Int16(POLLIN), revents: 0) }
            waits.append(pollfd(fd: toChild.write, events: Int16(POLLOUT), revents: 0))
            guard poll(&waits, nfds_t(waits.count), CInt(clamping: Int(milliseconds) + 1)) >= 0 || errno == EINTR else {
                throw SystemError("poll")
            }
            for (index, output) in outputs.enumerated() where waits[index].revents != 0 {
                let count = read(output.pipe.read, &buffer, buffer.count)
                if count > 0 { output.take(Data(buffer[..<count])) } else { output.pipe.closeRead() }
            }
            if toChild.write >= 0, waits[outputs.count].revents != 0 {
                let count = rest.prefix(65536).withUnsafeBytes { write(toChild.write, $0.baseAddress, $0.count) }
                if count > 0 { rest = rest.dropFirst(count) }
                // A program that reads no further has closed its end; what it did not want is not an error.
                if rest.isEmpty || (count < 0 && errno != EAGAIN && errno != EINTR) { toChild.closeWrite() }
            }
        }
    }
}

/// A pipe. An end that was closed reads as -1.
private final class Pipe {
    private(set) var read: CInt
    private(set) var write: CInt

    init() throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        // A program that has ended must not end us when we write to it.
        Glibc.signal(SIGPIPE, SIG_IGN)
        try check("make a pipe") { apus_pipe2(&ends, O_CLOEXEC) }
        read = ends[0]
        write = ends[1]
    }

    /// For the end that we write to. The other pipes' ends are the child's too, and programs expect them to block.
    func writeWithoutBlocking() { _ = apus_fcntl(write, F_SETFL, O_NONBLOCK) }

    deinit {
        closeRead()
        closeWrite()
    }

    func closeRead() {
        if read >= 0 { _ = Glibc.close(read) }
        read = -1
    }

    func closeWrite() {
        if write >= 0 { _ = Glibc.close(write) }
        write = -1
    }
}
