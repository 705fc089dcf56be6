import Glibc
import LinuxNetwork

/// The plugin's program in the runtime's folder. Blocks.
struct PluginFile: Sendable {
    /// Longer than any build of the plugin.
    private static let limit = 256 << 20

    let source: String
    let path: String

    /// Whether what is there is the same program, byte for byte.
    func isInPlace() throws(AgentError) -> Bool {
        do throws(SystemError) { return try isInPlace(wanted()) } catch { throw failure(error) }
    }

    /// Copies the program. A running one goes on: the old file stays until its last user ends.
    func install() throws(AgentError) {
        do throws(SystemError) {
            let wanted = try wanted()
            try AtomicFile.write(wanted, to: path, mode: 0o755)
            guard try isInPlace(wanted) else {
                throw SystemError("read back \(path): it is not what was written", code: EIO)
            }
        } catch {
            throw failure(error)
        }
    }

    private func wanted() throws(SystemError) -> [UInt8] {
        guard let bytes = try AtomicFile.read(source, limit: Self.limit), !bytes.isEmpty else {
            throw SystemError("open \(source)", code: ENOENT)
        }
        return bytes
    }

    private func isInPlace(_ wanted: [UInt8]) throws(SystemError) -> Bool {
        var info = stat()
        guard stat(path, &info) == 0, info.st_mode & 0o111 == 0o111, Int(info.st_size) == wanted.count else {
            return false
        }
        return try AtomicFile.read(path, limit: Self.limit) == wanted
    }

    private func failure(_ error: SystemError) -> AgentError {
        AgentError(
            .file, "cannot put the plugin into place at \(path)", cause: error.description,
            hint: error.code == EROFS ? "the folder is on a read-only file system; --cni-bin-dir names another" : "")
    }
}
