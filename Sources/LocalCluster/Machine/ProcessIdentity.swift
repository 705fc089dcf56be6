import CLinux
import Foundation
import Glibc
import LinuxNetwork

/// A process by its id and the time it started, which together never mean another one, also after ids were used again.
public struct ProcessIdentity: Hashable, Sendable, Codable {
    public let pid: Int32
    /// Clock ticks since boot (field 22 of /proc/pid/stat).
    public let startTime: UInt64

    public init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// The process that has this id now; `nil` when there is none or it is only waiting to be reaped.
    public init?(pid: Int32) {
        guard let status = Self.status(pid), status.state != "Z", status.state != "X" else { return nil }
        self.init(pid: pid, startTime: status.startTime)
    }

    /// This process.
    public static var own: ProcessIdentity? { ProcessIdentity(pid: getpid()) }

    public var isAlive: Bool { ProcessIdentity(pid: pid) == self }

    /// Sends a signal to this process and no other.
    /// - Returns: Whether it was there to receive it.
    @discardableResult
    public func signal(_ number: CInt) -> Bool {
        let pidfd = apus_pidfd_open(pid)
        guard pidfd >= 0 else { return false }
        let handle = FileDescriptor(owning: pidfd)
        // The handle is of whoever has the id now; only after that is it known to be the one that is meant.
        guard isAlive else { return false }
        return apus_pidfd_send_signal(handle.raw, number) == 0
    }

    /// The arguments it was started with.
    public var arguments: [String] {
        guard let bytes = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return [] }
        return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The network namespace it is in.
    public var namespace: NamespaceID? {
        var info = stat()
        guard stat("/proc/\(pid)/ns/net", &info) == 0 else { return nil }
        return NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }

    /// Every process whose main thread is in one of the namespaces.
    public static func all(in namespaces: Set<NamespaceID>) -> [ProcessIdentity] {
        guard !namespaces.isEmpty, let names = try? FileManager.default.contentsOfDirectory(atPath: "/proc") else {
            // Without /proc nothing can be found, and nothing was started either.
            return []
        }
        return names.compactMap { Int32($0) }.compactMap { ProcessIdentity(pid: $0) }
            .filter { $0.namespace.map(namespaces.contains) ?? false }
    }

    private static func status(_ pid: Int32) -> (state: Character, startTime: UInt64)? {
        guard let bytes = FileManager.default.contents(atPath: "/proc/\(pid)/stat") else { return nil }
        // The name may hold spaces and parentheses; what follows its last one is regular.
        guard let end = bytes.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = bytes[bytes.index(after: end)...].split(separator: UInt8(ascii: " "))
        guard fields.count > 19, let state = fields[0].first,
            let start = UInt64(String(decoding: fields[19], as: UTF8.self))
        else { return nil }
        return (Character(UnicodeScalar(state)), start)
    }
}
