import Glibc
import LinuxNetwork

/// The control group (version 2) whose processes make the proxy's sockets. A socket keeps the group of whoever made it,
/// also when it is handed over, and an accepted one that of its listener: unlike a mark, a container cannot set it.
public struct SocketCreator: Hashable, Sendable {
    /// The group's number, which is its directory's inode.
    public let cgroup: UInt64
    /// How many groups are above it, the root one too: 1 or more. Groups below it count as it.
    public let level: UInt32

    /// - Parameter directory: below the mount of cgroup v2: `/sys/fs/cgroup/kubepods.slice/...`. Blocks.
    /// - Throws: ``RedirectionError`` for what is no such directory, and for the root group, which holds everybody.
    public init(directory: String) throws(RedirectionError) {
        guard let mount = ControlGroups.mount() else {
            throw RedirectionError(.setting, "no cgroup2 is mounted", hint: "mount -t cgroup2 none /sys/fs/cgroup")
        }
        guard let resolved = realpath(directory, nil) else {
            throw RedirectionError(.setting, "\(directory) cannot be used", cause: String(cString: strerror(errno)))
        }
        defer { free(resolved) }
        let path = String(cString: resolved)
        var status = stat()
        guard path.hasPrefix(mount + "/"), stat(path + "/cgroup.procs", &status) == 0, stat(path, &status) == 0 else {
            throw RedirectionError(
                .setting, "\(directory) is no control group below the root one", hint: "name a directory below \(mount)"
            )
        }
        cgroup = UInt64(status.st_ino)
        level = UInt32(path.dropFirst(mount.count).split(separator: "/").count)
    }
}

enum ControlGroups {
    /// Where the first cgroup v2 hierarchy is mounted: the fifth field of a line of mountinfo (proc(5)), before the
    /// separator behind which the type stands.
    static func mount() -> String? {
        guard let file = fopen("/proc/self/mountinfo", "re") else { return nil }
        defer { fclose(file) }
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        while getline(&line, &capacity, file) > 0 {
            guard let text = line.map({ String(cString: $0) }) else { break }
            let fields = text.split(separator: " ")
            guard let separator = fields.firstIndex(of: "-"), separator + 1 < fields.count, fields.count > 4,
                fields[separator + 1] == "cgroup2"
            else { continue }
            return String(fields[4])
        }
        return nil
    }
}
