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

    /// Reads it from a process of the namespace; `nil` when there is none yet, or none with such a file. Blocks.
    /// - Throws: When no processes can be seen.
    static func read(in namespace: NamespaceID, _ processes: NamespaceProcesses) throws -> ResolverConfiguration? {
        for process in try processes.processes(of: namespace).prefix(mostTried) {
            // A process that has just ended has no root any more; the next one may.
            guard let text = try? text(process, namespace, proc: processes.proc) else { continue }
            let configuration = ResolverConfiguration(parsing: text)
            if !configuration.servers.isEmpty { return configuration }
        }
        return nil
    }

    private static func text(_ pid: Int32, _ namespace: NamespaceID, proc: String) throws -> String? {
        let root = try FileDescriptor.open("\(proc)/\(pid)/root", flags: O_RDONLY | O_DIRECTORY)
        // The number may have gone to another process between the two.
        guard NamespaceProcesses.identity("\(proc)/\(pid)/ns/net") == namespace else { return nil }
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
