import CLinux
import DNS
import Foundation
import Glibc
import LinuxNetwork

/// A pod's resolv.conf, as its processes see it.
///
/// The pod is not trusted: the path is followed inside of the process's root alone, and only a regular file of at most
/// 64 KiB is read, without waiting for anything.
enum PodResolverFile {
    static let path = "etc/resolv.conf"
    /// Processes of one pod that are tried.
    static let mostTried = 8

    /// Reads it from a process of the namespace; `nil` when there is none yet, or none with such a file. Blocks; looks
    /// through the machine's processes.
    static func read(in namespace: NamespaceID, proc: String = "/proc") -> ResolverConfiguration? {
        for process in processes(of: namespace, proc: proc).prefix(mostTried) {
            // A process that has just ended has no root any more; the next one may.
            guard let text = try? text(process, namespace, proc: proc) else { continue }
            let configuration = ResolverConfiguration(parsing: text)
            if !configuration.servers.isEmpty { return configuration }
        }
        return nil
    }

    /// Those with a file system of their own first: a tool that somebody has run in the pod's network from outside has
    /// the machine's.
    static func processes(of namespace: NamespaceID, proc: String = "/proc") -> [Int32] {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: proc) else { return [] }
        let machine = identity("\(proc)/1/ns/mnt")
        let own = identity("/proc/self/ns/mnt")
        var result: [(pid: Int32, isForeign: Bool)] = []
        for pid in names.compactMap({ Int32($0) }) {
            guard let network = identity("\(proc)/\(pid)/ns/net"), network == namespace else { continue }
            let files = identity("\(proc)/\(pid)/ns/mnt")
            result.append((pid, files != machine && files != own))
        }
        return result.sorted { ($0.isForeign ? 0 : 1, $0.pid) < ($1.isForeign ? 0 : 1, $1.pid) }.map(\.pid)
    }

    private static func identity(_ path: String) -> NamespaceID? {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        return NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }

    private static func text(_ pid: Int32, _ namespace: NamespaceID, proc: String) throws -> String? {
        let root = try FileDescriptor.open("\(proc)/\(pid)/root", flags: O_RDONLY | O_DIRECTORY)
        // The number may have gone to another process between the two.
        guard identity("\(proc)/\(pid)/ns/net") == namespace else { return nil }
        return try text(in: root)
    }

    /// - Throws: When the file is not there, cannot be opened, or is none to read.
    static func text(in root: borrowing FileDescriptor) throws(SystemError) -> String {
        let raw = root.raw
        // Not waiting: a FIFO in the file's place would hold us for ever.
        let flags = UInt64(O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
        let file = FileDescriptor(
            owning: try check("open the pod's /\(path)") { apus_openat2_in_root(raw, path, flags) })
        var info = stat()
        let descriptor = file.raw
        try check("look at the pod's /\(path)") { fstat(descriptor, &info) }
        guard info.st_mode & S_IFMT == S_IFREG else {
            throw SystemError("the pod's /\(path) is no regular file", code: EINVAL)
        }
        var bytes = [UInt8](repeating: 0, count: ResolverConfiguration.longestFile + 1)
        var length = 0
        while length < bytes.count {
            let count = bytes.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress.map { $0 + length }, $0.count - length)
            }
            if count == 0 { break }
            guard count > 0 else { throw SystemError("read the pod's /\(path)") }
            length += count
        }
        guard length <= ResolverConfiguration.longestFile else {
            throw SystemError("the pod's /\(path) is longer than 64 KiB", code: EFBIG)
        }
        return String(decoding: bytes[..<length], as: UTF8.self)
    }
}
