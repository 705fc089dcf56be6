import Glibc
import TLSEngine

/// The file of revocation lists, as it lies on the disk.
struct RevocationFile: Sendable {
    /// What tells one content from another without reading it. Links are followed, so exchanging a link above the file
    /// (as Kubernetes does with mounted volumes) changes it too.
    struct Version: Equatable, Sendable {
        var device: UInt64 = 0
        var inode: UInt64 = 0
        var size: Int64 = 0
        var modified: [Int] = []
        /// When there is no file to be read.
        var error: CInt = 0
    }

    static let maximumSize = 64 << 20

    let path: String

    var version: Version {
        var status = stat()
        guard stat(path, &status) == 0 else { return Version(error: errno) }
        return Version(
            device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int64(status.st_size),
            modified: [
                status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
            ])
    }

    /// - Throws: ``RevocationError``, also for lists that are malformed.
    func read() throws(RevocationError) -> RevocationLists {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw Self.unreadable(errno) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = chunk.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.unreadable(errno)
            }
            if count == 0 { break }
            bytes += chunk[..<count]
            guard bytes.count <= Self.maximumSize else {
                throw RevocationError("it is larger than \(Self.maximumSize >> 20) MiB")
            }
        }
        return try RevocationLists(contentsOf: bytes)
    }

    private static func unreadable(_ code: CInt) -> RevocationError {
        RevocationError("it cannot be read: \(String(cString: strerror(code)))")
    }
}
