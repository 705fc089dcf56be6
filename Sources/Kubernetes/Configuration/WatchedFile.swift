import Foundation
import Glibc

/// By which a file is known to have changed: writers put a new one in its place, or write into it.
struct FileStamp: Hashable, Sendable {
    private let device: UInt64
    private let inode: UInt64
    private let size: Int64
    private let seconds: Int
    private let nanoseconds: Int

    /// `nil` when there is no such file.
    init?(_ path: String) {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        device = UInt64(info.st_dev)
        inode = UInt64(info.st_ino)
        size = Int64(info.st_size)
        seconds = info.st_mtim.tv_sec
        nanoseconds = info.st_mtim.tv_nsec
    }

    static let maximumSize = 1 << 20

    static func read(_ path: String) throws(KubernetesError) -> [UInt8] {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path))
        } catch {
            throw KubernetesError(.credentials, "cannot read \(path)", cause: "\(error.localizedDescription)")
        }
        guard data.count <= maximumSize else {
            throw KubernetesError(.credentials, "\(path) is larger than \(maximumSize) bytes")
        }
        return [UInt8](data)
    }
}

/// A file's content, read again when the file has changed.
///
/// While it cannot be read, what was read last stands: rotation must not turn into an outage.
struct WatchedFile: Sendable {
    let path: String
    private var stamp: FileStamp?
    private var content: [UInt8]?

    init(_ path: String) { self.path = path }

    /// Its content, and whether that has changed since the last call.
    mutating func current() throws(KubernetesError) -> (bytes: [UInt8], isNew: Bool) {
        let now = FileStamp(path)
        if let content, now == nil || now == stamp { return (content, false) }
        do {
            let bytes = try FileStamp.read(path)
            stamp = now
            let isNew = bytes != content
            content = bytes
            return (bytes, isNew)
        } catch {
            if let content { return (content, false) }
            throw error
        }
    }

    /// The next call reads the file, whatever its stamp.
    mutating func forgetStamp() { stamp = nil }
}
