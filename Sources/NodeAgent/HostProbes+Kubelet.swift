import Glibc
import LinuxNetwork
import Redirection

/// Finds the cgroup by which kubelet's sockets are known. Reads /proc and the cgroup file system; does not wait.
enum KubeletCgroup {
    /// - Parameters:
    ///   - path: The cgroup, where the user names it; else the one of the kubelet that runs beside `node`.
    ///   - node: A process in the node's own namespaces.
    /// - Throws: When there is none, or none that tells kubelet from others.
    static func find(_ path: String?, node: String = "/proc/thread-self") throws(AgentError) -> SocketCgroup {
        guard let path else { return try find(ofProcess(beside: node)) }
        let parts = path.split(separator: "/")
        guard !parts.contains("..") else {
            throw AgentError(
                .process, "kubelet's cgroup is outside of what the agent sees", cause: path,
                hint: "run the agent in the node's cgroup namespace, as privileged containers are")
        }
        let mount = try mountPoint()
        let folder = "\(mount)/\(parts.joined(separator: "/"))"
        var info = stat()
        guard stat(folder, &info) == 0 else {
            throw AgentError(
                .file, "kubelet's cgroup cannot be read", cause: "\(folder): \(String(cString: strerror(errno)))",
                hint: "kubelet is not up yet, or --kubelet-cgroup names another place")
        }
        // On 64-bit systems the inode is the cgroup's id.
        guard let cgroup = SocketCgroup(id: UInt64(info.st_ino), level: UInt32(parts.count)) else {
            throw AgentError(
                .process, "kubelet has no cgroup of its own", cause: path,
                hint: "run kubelet as a service of systemd, or in a cgroup (version 2) made for it")
        }
        return cgroup
    }

    // MARK: The process

    /// A process is taken for kubelet by its name, when it is root's, in the node's network and process namespaces, and in no
    /// pod's cgroup: a pod's process may be called anything. More than one cgroup is no answer.
    private static func ofProcess(beside node: String) throws(AgentError) -> String {
        guard let directory = opendir("/proc") else {
            throw AgentError(.file, "cannot read /proc", cause: String(cString: strerror(errno)))
        }
        defer { closedir(directory) }
        let network = inode(node + "/ns/net")
        let processes = inode(node + "/ns/pid")
        var found: Set<String> = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            let folder = "/proc/\(name)"
            var info = stat()
            guard name.utf8.allSatisfy({ (48...57).contains($0) }), isNamedKubelet(folder),
                stat(folder, &info) == 0, info.st_uid == 0, network != nil, inode(folder + "/ns/net") == network,
                processes != nil, inode(folder + "/ns/pid") == processes, let path = cgroup(folder),
                !path.contains("kubepods")
            else { continue }
            found.insert(path)
        }
        guard let path = found.first else {
            throw AgentError(
                .process, "no kubelet runs in this network namespace",
                hint: "the agent needs the host's processes (hostPID); or name its cgroup with --kubelet-cgroup")
        }
        guard found.count == 1 else {
            throw AgentError(
                .process, "several processes may be kubelet", cause: found.sorted().joined(separator: ", "),
                hint: "name its cgroup with --kubelet-cgroup")
        }
        return path
    }

    /// kubelet itself, and the programs of MicroK8s and k3s that hold it.
    private static func isNamedKubelet(_ folder: String) -> Bool {
        switch text(folder + "/comm")?.split(separator: "\n").first {
        case "kubelet": true
        case "kubelite": text(folder + "/cmdline")?.contains("kubelet") ?? false
        case "k3s", "k3s-server", "k3s-agent":
            text(folder + "/cmdline").map { $0.contains("server") || $0.contains("agent") } ?? false
        default: false
        }
    }

    private static func cgroup(_ folder: String) -> String? {
        text(folder + "/cgroup")?.split(separator: "\n").first { $0.hasPrefix("0::") }
            .map { String($0.dropFirst(3)) }
    }

    // MARK: The file system

    private static func mountPoint() throws(AgentError) -> String {
        for line in text("/proc/thread-self/mountinfo")?.split(separator: "\n") ?? [] {
            // Number, parent, device, root, mount point, options, fields of any number, "-", type.
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), dash + 1 < fields.count, fields[dash + 1] == "cgroup2",
                fields.count > 4, fields[3] == "/"
            else { continue }
            return String(fields[4])
        }
        throw AgentError(
            .file, "no cgroup file system (version 2) is mounted", hint: "mount the host's /sys/fs/cgroup")
    }

    private static func inode(_ path: String) -> ino_t? {
        var info = stat()
        return stat(path, &info) == 0 ? info.st_ino : nil
    }

    /// A small file's text; `nil` when it cannot be read, as of a process that has just ended.
    private static func text(_ path: String) -> String? {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let file = FileDescriptor(owning: raw)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        while bytes.count < 1 << 20 {
            let count = read(file.raw, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
