import CLinux
import Glibc
import LinuxNetwork

/// Network namespaces with a name below `/run/netns`, as `ip netns` makes them, without a program for each step.
enum NamedNamespace {
    // <sys/mount.h>, which Swift's Glibc module lacks.
    private static let bind: UInt = 1 << 12
    private static let recursive: UInt = 1 << 14
    private static let shared: UInt = 1 << 20

    /// Makes a namespace under a name that is free.
    static func make(_ name: String) throws {
        try prepareFolder()
        let path = RunLayout.namespacePath(name)
        let namespace = try NetworkNamespace.make()
        // Only something to mount onto.
        close(try check("make \(path)") { open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0) })
        do {
            try check("name the namespace \(name)") {
                apus_mount("/proc/self/fd/\(namespace.raw)", path, "none", Self.bind)
            }
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Takes the name away; the namespace ends with whoever is in it. A name that is not there is an error.
    static func remove(_ name: String) throws {
        let path = RunLayout.namespacePath(name)
        // A name that a crash left without its namespace is a plain file, and not mounted.
        if apus_umount_detach(path) != 0, errno != EINVAL { throw SystemError("unmount \(path)") }
        try check("remove \(path)") { unlink(path) }
    }

    /// The folder is a mount of its own that passes mounts on, so that names made here are seen in every mount namespace
    /// and can be removed in any.
    private static func prepareFolder() throws {
        let folder = RunLayout.namespaceFolder
        try Files.makeFolder(folder)
        if share(folder) == 0 { return }
        guard errno == EINVAL else { throw SystemError("share mounts in \(folder)") }
        // Not a mount yet: the first namespace of this machine.
        try check("mount \(folder) onto itself") { apus_mount(folder, folder, "none", Self.bind | Self.recursive) }
        try check("share mounts in \(folder)") { share(folder) }
    }

    private static func share(_ folder: String) -> CInt { apus_mount("", folder, "none", shared | recursive) }
}
