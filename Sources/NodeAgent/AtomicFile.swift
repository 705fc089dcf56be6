import Glibc
import LinuxNetwork

/// Files that are there whole or not at all, also after a crash: temporary file, fsync, rename, fsync of the folder.
enum AtomicFile {
    /// Writes a file into an open folder.
    ///
    /// Relative to the folder's descriptor and never through a link, because the folder may belong to a user who is
    /// not trusted.
    /// - Parameter survivesPowerLoss: Without it only the process may die: nothing waits for the disk.
    static func write(
        _ bytes: [UInt8], as name: String, in folder: borrowing FileDescriptor, mode: mode_t, owner: uid_t? = nil,
        survivesPowerLoss: Bool = true
    ) throws(SystemError) {
        let temporary = ".\(name).new"
        let directory = folder.raw
        if unlinkat(directory, temporary, 0) != 0, errno != ENOENT { throw SystemError("remove \(temporary)") }
        let file = try FileDescriptor.open(
            temporary, in: folder, flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
        do {
            let raw = file.raw
            try writeAll(bytes, to: raw)
            if let owner { try check("change the owner of \(name)") { fchown(raw, owner, owner) } }
            // The process's mask does not apply: the mode is what was asked for.
            try check("change the mode of \(name)") { fchmod(raw, mode) }
            if survivesPowerLoss { try check("sync \(name)") { fsync(raw) } }
            try check("rename \(temporary) to \(name)") { renameat(directory, temporary, directory, name) }
        } catch {
            unlinkat(directory, temporary, 0)
            throw error
        }
        if survivesPowerLoss { try check("sync the folder of \(name)") { fsync(directory) } }
    }

    static func write(
        _ bytes: [UInt8], to path: String, mode: mode_t, survivesPowerLoss: Bool = true
    ) throws(SystemError) {
        let (folder, name) = split(path)
        try write(
            bytes, as: name, in: FileDescriptor.open(folder, flags: O_RDONLY | O_DIRECTORY), mode: mode,
            survivesPowerLoss: survivesPowerLoss)
    }

    /// Adds to a file in one piece, and makes it where it is missing. For the life of the process, not for the machine's.
    /// - Returns: False when it is longer than `limit`: nothing is added then.
    static func append(
        _ bytes: [UInt8], to path: String, mode: mode_t, limit: Int
    ) throws(SystemError) -> Bool {
        let flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW
        let file = FileDescriptor(owning: try check("open \(path)") { open(path, flags | O_CLOEXEC, mode) })
        let raw = file.raw
        var info = stat()
        try check("look at \(path)") { fstat(raw, &info) }
        guard info.st_size + bytes.count <= limit else { return false }
        try writeAll(bytes, to: raw)
        return true
    }

    /// A file's bytes; `nil` when there is none.
    /// - Throws: `EFBIG` when it is longer than `limit`.
    static func read(_ path: String, limit: Int = 1 << 20) throws(SystemError) -> [UInt8]? {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        if raw < 0, errno == ENOENT { return nil }
        guard raw >= 0 else { throw SystemError("open \(path)") }
        let file = FileDescriptor(owning: raw)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            let count = try check("read \(path)") { Glibc.read(file.raw, &buffer, buffer.count) }
            if count == 0 { return bytes }
            bytes += buffer[..<count]
            guard bytes.count <= limit else { throw SystemError("read \(path)", code: EFBIG) }
        }
    }

    /// Makes a folder with those above it that are missing.
    static func makeFolder(_ path: String, mode: mode_t) throws(SystemError) {
        if mkdir(path, mode) == 0 || errno == EEXIST { return }
        guard errno == ENOENT else { throw SystemError("make folder \(path)") }
        let parent = split(path).folder
        guard parent != path, parent != "." else { throw SystemError("make folder \(path)", code: ENOENT) }
        try makeFolder(parent, mode: 0o755)
        guard mkdir(path, mode) == 0 || errno == EEXIST else { throw SystemError("make folder \(path)") }
    }

    static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let folder = path[..<slash]
        return (folder.isEmpty ? "/" : String(folder), String(path[path.index(after: slash)...]))
    }

    private static func writeAll(_ bytes: [UInt8], to file: CInt) throws(SystemError) {
        var written = 0
        while written < bytes.count {
            written += try check("write") {
                bytes.withUnsafeBytes { buffer in
                    Glibc.write(file, buffer.baseAddress?.advanced(by: written), buffer.count - written)
                }
            }
        }
    }
}
