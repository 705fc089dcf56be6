import Glibc
import LinuxNetwork

/// One process, held by its folder: when it has ended, every question fails, also when its number has gone to another.
struct ProcessEntry: ~Copyable {
    /// More than any process's cgroups or state.
    private static let limit = 64 << 10

    private let folder: FileDescriptor

    /// - Throws: `ENOENT` when there is none.
    init(_ pid: Int32, proc: String) throws(SystemError) {
        folder = try FileDescriptor.open("\(proc)/\(pid)", flags: O_RDONLY | O_DIRECTORY)
    }

    /// Its network namespace, without opening it.
    borrowing func namespaceID() throws(SystemError) -> NamespaceID {
        var info = stat()
        let raw = folder.raw
        try check("stat ns/net") { fstatat(raw, "ns/net", &info, 0) }
        return NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }

    borrowing func namespace() throws(SystemError) -> NetworkNamespace {
        try NetworkNamespace(owning: FileDescriptor.open("ns/net", in: folder, flags: O_RDONLY | O_NONBLOCK))
    }

    borrowing func cgroups() throws(SystemError) -> String { try text("cgroup") }

    /// When it was started, in ticks since boot: field 22 of its state, behind a name that may hold anything.
    borrowing func startTime() throws(SystemError) -> UInt64 {
        let state = try text("stat")
        let fields = (state.lastIndex(of: ")").map { state[state.index(after: $0)...] } ?? "").split(separator: " ")
        guard fields.count > 19, let time = UInt64(fields[19]) else {
            throw SystemError("read the start time of a process", code: EINVAL)
        }
        return time
    }

    private borrowing func text(_ name: String) throws(SystemError) -> String {
        let file = try FileDescriptor.open(name, in: folder, flags: O_RDONLY | O_NONBLOCK)
        let raw = file.raw
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count <= Self.limit {
            let count = try check("read \(name)") { Glibc.read(raw, &buffer, buffer.count) }
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
        }
        throw SystemError("read \(name)", code: EFBIG)
    }
}
