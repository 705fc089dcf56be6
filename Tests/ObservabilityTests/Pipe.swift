import Glibc
import LinuxNetwork

/// A pipe for tests: what is written to ``input`` is read here.
final class Pipe {
    private var reader: CInt
    private(set) var input: CInt

    init() throws {
        var ends: [CInt] = [0, 0]
        guard pipe(&ends) == 0 else { throw SystemError("pipe") }
        reader = ends[0]
        input = ends[1]
    }

    deinit {
        close(reader)
        close(input)
    }

    /// Makes the pipe take no more than one page.
    func shrink() {
        // F_SETPIPE_SZ, which the C library shows to GNU sources alone.
        _ = fcntl(input, 1031, 4096)
    }

    func closeReader() {
        close(reader)
        reader = -1
    }

    /// What there is to read, waiting up to a time for the first of it.
    func read(milliseconds: CInt = 2000) -> String {
        var bytes: [UInt8] = []
        var wait = milliseconds
        while true {
            var entry = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, wait) > 0 else { return String(decoding: bytes, as: UTF8.self) }
            wait = 0
            var chunk = [UInt8](repeating: 0, count: 65536)
            let count = Glibc.read(reader, &chunk, chunk.count)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk[..<count]
        }
    }
}

/// A path under the temporary folder that no other run uses.
func temporaryPath(_ name: String) -> String {
    "/tmp/apus-observability-\(getpid())-\(UInt64.random(in: 0...UInt64.max))-\(name)"
}

/// The whole of a small file.
func contents(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = read(file, &chunk, chunk.count)
        guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
        bytes += chunk[..<count]
    }
}
