import Glibc
import LinuxNetwork

/// The folder of CNI configurations, read as a container runtime reads it. Blocks.
struct NetworkFolder: Sendable {
    /// What Apus calls its own list. The second is for a primary that sorts before the first.
    static let ownedNames = ["02-apus.conflist", "00-apus.conflist"]
    /// What multus finds by the network's name.
    static let multusName = "apus-cni.conf"

    let path: String

    struct File: Sendable {
        let name: String
        let mode: mode_t
        let isLink: Bool
        let list: NetworkList
    }

    struct Contents: Sendable {
        /// The files that a runtime could use, sorted by name as it sorts them.
        var files: [File] = []
        var unreadable: [(name: String, reason: String, age: Duration)] = []

        /// What was there without us: the first that has a plugin of somebody else's and is not our own file.
        var primary: File? {
            files.first { !NetworkFolder.isOurs($0.name) && $0.list.hasForeignPlugins }
        }

        /// The file that the runtime uses.
        var first: File? { files.first }

        subscript(name: String) -> File? { files.first { $0.name == name } }
    }

    static func isOurs(_ name: String) -> Bool { ownedNames.contains(name) || name == multusName }

    /// As containerd has it; the field's other runtimes take fewer.
    private static func isConfiguration(_ name: String) -> Bool {
        [".conf", ".conflist", ".json"].contains { name.hasSuffix($0) }
    }

    func read() throws(AgentError) -> Contents {
        var contents = Contents()
        for name in try FileList.names(in: path) where Self.isConfiguration(name) {
            var info = stat()
            var own = stat()
            let file = "\(path)/\(name)"
            // One that went away meanwhile is not there.
            guard lstat(file, &own) == 0, stat(file, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { continue }
            do {
                guard let bytes = try AtomicFile.read(file) else { continue }
                contents.files.append(
                    File(
                        name: name, mode: info.st_mode & 0o7777, isLink: own.st_mode & S_IFMT == S_IFLNK,
                        list: try NetworkList(bytes)))
            } catch {
                contents.unreadable.append((name, "\(error)", Self.age(of: info)))
            }
        }
        return contents
    }

    private static func age(of info: stat) -> Duration {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let seconds = Int64(now.tv_sec) - Int64(info.st_mtim.tv_sec)
        let nanoseconds = Int64(now.tv_nsec) - Int64(info.st_mtim.tv_nsec)
        // A clock that was set back must not make a file young for ever.
        return Swift.max(.seconds(seconds) + .nanoseconds(nanoseconds), .zero)
    }

    /// Writes a file whole, and reads back what then is there.
    func write(_ bytes: [UInt8], as name: String, mode: mode_t) throws(AgentError) {
        let file = "\(path)/\(name)"
        do throws(SystemError) {
            try AtomicFile.write(bytes, to: file, mode: mode)
            guard try AtomicFile.read(file) == bytes else {
                throw SystemError("read back \(file): it is not what was written", code: EIO)
            }
        } catch {
            throw AgentError(
                .file, "cannot write \(file)", cause: error.description,
                hint: error.code == EROFS
                    ? "the folder is on a read-only file system; --cni-conf-dir names another" : "")
        }
    }

    /// - Returns: Whether there was such a file.
    @discardableResult
    func remove(_ name: String) throws(AgentError) -> Bool {
        try FileList.remove("\(path)/\(name)")
    }
}

/// Names and removals, with errors for an operator.
enum FileList {
    /// Sorted by their bytes. Of a folder that is not there: none.
    static func names(in path: String) throws(AgentError) -> [String] {
        guard let directory = opendir(path) else {
            if errno == ENOENT { return [] }
            throw AgentError(.file, "cannot read the folder \(path)", cause: String(cString: strerror(errno)))
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// - Returns: Whether there was such a file.
    static func remove(_ path: String) throws(AgentError) -> Bool {
        if unlink(path) == 0 {
            let folder = open(AtomicFile.split(path).folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            if folder >= 0 {
                fsync(folder)
                close(folder)
            }
            return true
        }
        if errno == ENOENT || errno == ENOTDIR { return false }
        throw AgentError(.file, "cannot remove \(path)", cause: String(cString: strerror(errno)))
    }
}
