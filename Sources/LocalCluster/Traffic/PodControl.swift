import Addressing
import Foundation
import Glibc
import LinuxNetwork

/// What the demo and the tests say to the traffic program in a pod: JSON, one object a line, over a unix socket.
public enum PodControl {
    /// The environment variable that tells a pod's program where to listen.
    public static let environmentName = "APUS_POD_CONTROL"

    public enum Request: Codable, Sendable {
        /// An HTTP GET on a connection of its own.
        case get(target: String, path: String, milliseconds: Int)
        /// Opens a connection to an echo server, under a name, and keeps it.
        case open(name: String, target: String, milliseconds: Int)
        /// Sends a line on an open connection and waits for it to come back.
        case exchange(name: String, line: String, milliseconds: Int)
        case close(name: String)
        /// Begins to open connections at a rate, each with one line there and back, in the background.
        case startLoad(target: String, perSecond: Int, milliseconds: Int)
        /// Waits for the load to end and tells what became of each connection.
        case awaitLoad
    }

    public enum Answer: Codable, Sendable {
        case done
        case http(HTTPAnswer)
        case line(String)
        case load(LoadReport)
        /// What was asked did not succeed: the connection failed, was closed, or took too long.
        case failed(String)
    }

    static func encode(_ value: some Encodable) throws -> [UInt8] { Array(try JSONEncoder().encode(value)) + [10] }

    static func decode<Value: Decodable>(_ line: String) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(line.utf8))
    }

    static func listen(_ path: String) throws -> FileDescriptor {
        unlink(path)
        let socket = FileDescriptor(
            owning: try check("make a unix socket") {
                Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
            })
        let raw = socket.raw
        try withAddress(path) { address, length in
            try check("bind \(path)") { bind(raw, address, length) }
        }
        try Sockets.listen(raw, backlog: 16)
        return socket
    }

    static func connect(_ path: String) throws -> FileDescriptor {
        let socket = FileDescriptor(
            owning: try check("make a unix socket") {
                Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
            })
        let raw = socket.raw
        try withAddress(path) { address, length in
            try check("connect to \(path)") { Glibc.connect(raw, address, length) }
        }
        return socket
    }

    private static func withAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Void) throws
    {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw LocalClusterError(.environment, "the path \(path) is too long for a unix socket")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        try withUnsafePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

/// The demo's and the tests' side of ``PodControl``: one connection, one request at a time.
public final class PodClientConnection {
    private let stream: StreamConnection
    private let pod: String

    init(path: String, pod: String) throws {
        // The program may still be starting.
        let descriptor = try Waiting.until("the program in pod \(pod) to listen", within: .seconds(15)) {
            try? PodControl.connect(path).release()
        }
        stream = StreamConnection(owning: FileDescriptor(owning: descriptor))
        self.pod = pod
    }

    private func ask(_ request: PodControl.Request, within timeout: Duration) throws -> PodControl.Answer {
        try stream.send(PodControl.encode(request), within: .seconds(5))
        guard let line = try stream.line(within: timeout + .seconds(10)) else {
            throw LocalClusterError(.traffic, "the program in pod \(pod) has ended")
        }
        return try PodControl.decode(line)
    }

    private func unexpected(_ answer: PodControl.Answer) -> LocalClusterError {
        if case .failed(let reason) = answer { return LocalClusterError(.traffic, "from pod \(pod): \(reason)") }
        return LocalClusterError(.traffic, "the program in pod \(pod) answered something else: \(answer)")
    }

    /// - Throws: ``LocalClusterError`` with code `traffic` and what went wrong, as the pod's program saw it.
    public func get(_ target: Endpoint, path: String, within timeout: Duration = .seconds(5)) throws -> HTTPAnswer {
        let answer = try ask(
            .get(target: "\(target)", path: path, milliseconds: Int(timeout / .milliseconds(1))), within: timeout)
        guard case .http(let response) = answer else { throw unexpected(answer) }
        return response
    }

    public func open(_ name: String, to target: Endpoint, within timeout: Duration = .seconds(5)) throws {
        let answer = try ask(
            .open(name: name, target: "\(target)", milliseconds: Int(timeout / .milliseconds(1))), within: timeout)
        guard case .done = answer else { throw unexpected(answer) }
    }

    /// Sends a line on a connection that was opened, and returns what came back.
    public func exchange(_ name: String, _ line: String, within timeout: Duration = .seconds(5)) throws -> String {
        let answer = try ask(
            .exchange(name: name, line: line, milliseconds: Int(timeout / .milliseconds(1))), within: timeout)
        guard case .line(let echoed) = answer else { throw unexpected(answer) }
        return echoed
    }

    public func close(_ name: String) throws {
        let answer = try ask(.close(name: name), within: .seconds(5))
        guard case .done = answer else { throw unexpected(answer) }
    }

    public func startLoad(_ target: Endpoint, perSecond: Int, for duration: Duration) throws {
        let answer = try ask(
            .startLoad(target: "\(target)", perSecond: perSecond, milliseconds: Int(duration / .milliseconds(1))),
            within: .seconds(5))
        guard case .done = answer else { throw unexpected(answer) }
    }

    public func awaitLoad(within timeout: Duration) throws -> LoadReport {
        let answer = try ask(.awaitLoad, within: timeout)
        guard case .load(let report) = answer else { throw unexpected(answer) }
        return report
    }
}
