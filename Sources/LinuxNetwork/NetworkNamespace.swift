import CLinux
import Glibc

/// What tells one namespace from another: the device and inode of its nsfs file.
public struct NamespaceID: Hashable, Sendable, CustomStringConvertible {
    public let device: UInt64
    public let inode: UInt64

    public init(device: UInt64, inode: UInt64) {
        self.device = device
        self.inode = inode
    }

    public var description: String { "net:[\(inode)]" }
}

/// A handle on a network namespace. The namespace lives at least as long as the handle.
public struct NetworkNamespace: ~Copyable, Sendable {
    private let descriptor: FileDescriptor
    public let id: NamespaceID

    /// The descriptor's number, to borrow.
    public var raw: CInt { descriptor.raw }

    /// Takes a descriptor that must be a network namespace.
    /// - Throws: `EINVAL` when it is something else: a plain file, or a namespace of another type.
    public init(owning descriptor: consuming FileDescriptor) throws(SystemError) {
        let raw = descriptor.raw
        guard apus_is_nsfs(raw) else { throw SystemError("the descriptor is not a namespace file", code: EINVAL) }
        guard apus_namespace_type(raw) == apus_newnet() else {
            throw SystemError("the descriptor is a namespace, but not a network namespace", code: EINVAL)
        }
        var info = stat()
        try check("fstat of a namespace") { fstat(raw, &info) }
        id = NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
        self.descriptor = descriptor
    }

    /// Opens a namespace by its path, such as `/run/netns/pod` or `/proc/42/ns/net`.
    public init(path: String) throws(SystemError) {
        // O_NONBLOCK means nothing to a namespace, and keeps a FIFO at the path from holding us for ever.
        try self.init(owning: FileDescriptor.open(path, flags: O_RDONLY | O_NONBLOCK))
    }

    /// The namespace the calling thread is in.
    public static func current() throws(SystemError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    public borrowing func duplicate() throws(SystemError) -> NetworkNamespace {
        try NetworkNamespace(owning: descriptor.duplicate())
    }

    /// A new namespace of its own, with a loopback device that is down.
    /// The calling thread is back where it was when this returns.
    public static func make() throws(SystemError) -> NetworkNamespace {
        let home = try current()
        try check("unshare(CLONE_NEWNET)") { apus_clone_newnet() }
        defer { home.enterOrAbort() }
        return try current()
    }

    /// Runs `body` with the calling thread in this namespace.
    ///
    /// - Important: `body` must not start threads or touch a lazy thread pool for the first time (new threads inherit the
    ///   namespace), and cannot await. When the thread cannot come back the process is aborted: nothing that ran after
    ///   it would be in the namespace it believes to be in.
    public borrowing func run<Value: ~Copyable, Failure: Error>(
        _ body: () throws(Failure) -> Value
    ) throws -> Value {
        let home = try NetworkNamespace.current()
        if home.id == id { return try body() }
        let raw = raw
        let id = id
        try check("enter \(id)") { apus_setns(raw, apus_newnet()) }
        defer { home.enterOrAbort() }
        return try body()
    }

    /// Enters the namespace that the calling thread is in already: whether it would be allowed to enter others.
    /// - Throws: `EPERM` without CAP_SYS_ADMIN.
    public borrowing func reenter() throws(SystemError) {
        let raw = raw
        let id = id
        try check("enter \(id)") { apus_setns(raw, apus_newnet()) }
    }

    private borrowing func enterOrAbort() {
        guard apus_setns(raw, apus_newnet()) == 0 else {
            fatalError("cannot return to \(id) after work in another namespace: errno \(errno)")
        }
    }
}
