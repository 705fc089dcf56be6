import Addressing
import CLinux
import Glibc
import LinuxNetwork
import Testing

struct Complaint: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Asks until it is so; the wait between two questions is a poll of nothing.
func eventually(
    _ what: String, seconds: Int = 20, sourceLocation: SourceLocation = #_sourceLocation, _ isSo: () throws -> Bool
) throws {
    let deadline = MonotonicClock.now + UInt64(seconds) * 1_000_000_000
    while MonotonicClock.now < deadline {
        if try isSo() { return }
        poll(nil, 0, 5)
    }
    Issue.record("not in \(seconds) s: \(what)", sourceLocation: sourceLocation)
    throw Complaint(what)
}

func text(of path: String) throws -> String {
    let file = try FileDescriptor.open(path, flags: O_RDONLY)
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let got = read(file.raw, &chunk, chunk.count)
        guard got > 0 else { break }
        bytes += chunk.prefix(got)
    }
    return String(decoding: bytes, as: UTF8.self)
}

/// A directory that root alone can write, removed with all that the tests leave in it.
final class Scratch {
    let path: String

    init() throws {
        var template = Array("/tmp/tkeeper-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        chmod(path, 0o711)
    }

    deinit {
        for name in ["log", "log2", "out", "command.out", "keeper.sock", "ztunnel/ztunnel.sock"] { unlink(file(name)) }
        rmdir(file("ztunnel"))
        rmdir(path)
    }

    func file(_ name: String) -> String { path + "/" + name }
}

/// A program run by the test; ended with it.
final class Child {
    let pid: pid_t
    let output: String
    private var status: CInt?

    /// The child lives in the network namespace of the calling thread. Both outputs go to the file `output`.
    init(_ words: [String], output: String) throws {
        self.output = output
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let result = posix_spawnp(&pid, words[0], &actions, nil, &arguments, environ)
        guard result == 0 else { throw SystemError("start \(words[0])", code: result) }
        self.pid = pid
    }

    deinit {
        if !hasEnded() {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
    }

    func hasEnded() -> Bool {
        if status != nil { return true }
        var raw: CInt = 0
        guard waitpid(pid, &raw, WNOHANG) == pid else { return false }
        status = raw
        return true
    }

    /// The exit code, or minus the signal.
    func exitCode() throws -> CInt {
        try eventually("process \(pid) ends") { hasEnded() }
        let raw = status ?? 0
        return raw & 0x7f == 0 ? (raw >> 8) & 0xff : -(raw & 0x7f)
    }
}

/// Runs a command to its end and returns what it printed.
@discardableResult
func run(_ words: String..., in directory: String) throws -> String {
    let child = try Child(words, output: directory + "/command.out")
    let code = try child.exitCode()
    let output = try text(of: child.output)
    guard code == 0 else { throw Complaint("\(words) ended with \(code): \(output)") }
    return output
}

/// A pod: a network namespace without a name, gone with its last user.
final class TestPod {
    let uid: String
    let namespace: NetworkNamespace

    init(_ uid: String) throws {
        self.uid = uid
        namespace = try NetworkNamespace.make()
        try namespace.run { try Self.raiseLoopback() }
    }

    private static func raiseLoopback() throws {
        let socket = try Sockets.tcp(dualStack: false)
        // struct ifreq: name, then flags (IFF_UP)
        var request = [CInt](repeating: 0, count: 10)
        request.withUnsafeMutableBytes {
            $0.copyBytes(from: Array("lo".utf8))
            $0.storeBytes(of: 1, toByteOffset: 16, as: Int16.self)
        }
        try check("raise lo") { apus_ioctl_int(socket.raw, UInt(SIOCSIFFLAGS), &request) }
    }

    func connect(_ endpoint: String) throws -> FileDescriptor {
        let endpoint = try #require(Endpoint(endpoint))
        let raw = try namespace.run {
            let dualStack = !endpoint.address.isV4
            let socket = try Sockets.tcp(dualStack: dualStack)
            _ = try Sockets.connect(socket.raw, to: endpoint, dualStack: dualStack)
            return socket.release()
        }
        let socket = FileDescriptor(owning: raw)
        try #require(ready(raw, POLLOUT))
        let error = Sockets.pendingError(raw)
        guard error == 0 else { throw SystemError("connect to \(endpoint)", code: error) }
        return socket
    }

    func listen(port: UInt16) throws -> FileDescriptor {
        FileDescriptor(
            owning: try namespace.run {
                let socket = try Sockets.tcp(dualStack: false)
                try Sockets.bind(socket.raw, to: Endpoint(.anyV4, port), dualStack: false)
                try Sockets.listen(socket.raw, backlog: 16)
                return socket.release()
            })
    }

    /// The local ports of the listening TCP sockets in the namespace.
    func listeningPorts() throws -> [Int] {
        try namespace.run {
            var ports: [Int] = []
            for table in ["tcp", "tcp6"] {
                for line in try text(of: "/proc/thread-self/net/\(table)").split(separator: "\n").dropFirst() {
                    let columns = line.split(separator: " ")
                    guard columns.count > 3, columns[3] == "0A" else { continue }
                    ports.append(Int(columns[1].split(separator: ":").last ?? "", radix: 16) ?? -1)
                }
            }
            return ports.sorted()
        }
    }

    /// Sockets in use in the namespace, of all kinds: what the kernel counts. A child of another test on its way from fork to
    /// exec may hold one for a moment.
    func socketsInUse() throws -> Int {
        try namespace.run {
            let line = try text(of: "/proc/thread-self/net/sockstat").split(separator: "\n").first ?? ""
            return Int(line.split(separator: " ").last ?? "") ?? -1
        }
    }
}

func ready(_ fd: CInt, _ events: CInt, milliseconds: CInt = 10_000) -> Bool {
    var entry = pollfd(fd: fd, events: Int16(events), revents: 0)
    return poll(&entry, 1, milliseconds) == 1
}

func integerOption(_ fd: CInt, _ level: CInt, _ option: CInt) -> CInt {
    var value: CInt = -1
    var length = socklen_t(MemoryLayout<CInt>.size)
    return getsockopt(fd, level, option, &value, &length) == 0 ? value : -errno
}

/// Not inherited by the programs that other tests start meanwhile, as dup(2)'s would be.
func copy(of fd: CInt) throws -> FileDescriptor {
    FileDescriptor(owning: try check("copy a descriptor") { apus_fcntl(fd, F_DUPFD_CLOEXEC, 0) })
}

func inode(_ fd: CInt) -> UInt64 {
    var info = stat()
    return fstat(fd, &info) == 0 ? UInt64(info.st_ino) : 0
}
