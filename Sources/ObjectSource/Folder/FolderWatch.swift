import Dispatch
import Glibc

/// Tells what happened in folders (inotify): to which files, and which of them are whole for sure. Whether it matters is for
/// a look at them to find out.
final class FolderWatch {
    struct News: Sendable, Equatable {
        /// By folder, the names of files that were renamed into place and not written to since: nobody is in the middle of
        /// writing them.
        var arrived: [String: Set<String>] = [:]
        /// By folder, all names that something happened to.
        var touched: [String: Set<String>] = [:]
        /// It is not known what happened to whom: everything has to be looked at.
        var isVague = false

        mutating func merge(_ later: News) {
            arrived.merge(later.arrived) { $0.union($1) }
            touched.merge(later.touched) { $0.union($1) }
            isVague = isVague || later.isVague
        }
    }

    private let source: any DispatchSourceRead
    private let descriptor: CInt
    private let folders: Folders

    /// Which folder a watch is of. Touched on the queue alone.
    private final class Folders: @unchecked Sendable { var byWatch: [CInt: String] = [:] }

    /// `nil` when the kernel has none left for us: then only the slow poll sees changes.
    ///
    /// - Parameter onEvent: Called on `queue` after events; several may be one call.
    init?(queue: DispatchQueue, onEvent: @escaping @Sendable (News) -> Void) {
        let descriptor = inotify_init1(CInt(IN_NONBLOCK | IN_CLOEXEC))
        guard descriptor >= 0 else { return nil }
        self.descriptor = descriptor
        let folders = Folders()
        self.folders = folders
        source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
        source.setEventHandler {
            var news = News()
            withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 8) { buffer in
                while true {
                    let count = read(descriptor, buffer.baseAddress, buffer.count)
                    guard count > 0 else { return }
                    Self.note(UnsafeRawBufferPointer(rebasing: buffer[..<count]), folders.byWatch, &news)
                }
            }
            onEvent(news)
        }
        source.setCancelHandler { close(descriptor) }
        source.resume()
    }

    deinit { source.cancel() }

    /// Watches a folder; watching it again follows a folder that was replaced. False when it cannot be watched.
    @discardableResult
    func watch(_ path: String) -> Bool {
        let mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ATTRIB | IN_MODIFY
        let watch = inotify_add_watch(descriptor, path, UInt32(mask))
        if watch >= 0 { folders.byWatch[watch] = path }
        return watch >= 0
    }

    /// Takes the kernel's events apart (inotify(7)): watch, mask, cookie and length, then so many bytes with the name.
    private static func note(_ events: UnsafeRawBufferPointer, _ folders: [CInt: String], _ news: inout News) {
        let head = MemoryLayout<inotify_event>.size
        var offset = 0
        while offset + head <= events.count {
            let watch = events.loadUnaligned(fromByteOffset: offset, as: CInt.self)
            let mask = events.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
            let length = Int(events.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
            let end = min(offset + head + length, events.count)
            let name = String(decoding: events[(offset + head)..<end].prefix { $0 != 0 }, as: UTF8.self)
            // Something about a folder itself, or more than the kernel could keep.
            if name.isEmpty || mask & UInt32(IN_Q_OVERFLOW | IN_ISDIR) != 0 { news.isVague = true }
            if !name.isEmpty, let folder = folders[watch] {
                news.touched[folder, default: []].insert(name)
                if mask & UInt32(IN_MOVED_TO) != 0 {
                    news.arrived[folder, default: []].insert(name)
                } else if mask & UInt32(IN_CREATE | IN_MODIFY) != 0 {
                    news.arrived[folder]?.remove(name)
                }
            }
            offset = end
        }
    }
}
