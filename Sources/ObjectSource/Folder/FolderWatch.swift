import Dispatch
import Glibc

/// Tells that something happened in folders (inotify). What it was is for a scan to find out, but for one thing: files
/// that were moved into their place are whole.
final class FolderWatch {
    /// By folder, the names of files that were renamed into place and not written to since: nobody is in the middle of
    /// writing them.
    typealias Arrivals = [String: Set<String>]

    private let source: any DispatchSourceRead
    private let descriptor: CInt
    private let folders: Folders

    /// Which folder a watch is of. Touched on the queue alone.
    private final class Folders: @unchecked Sendable { var byWatch: [CInt: String] = [:] }

    /// `nil` when the kernel has none left for us: then only the slow poll sees changes.
    ///
    /// - Parameter onEvent: Called on `queue` after events; several may be one call.
    init?(queue: DispatchQueue, onEvent: @escaping @Sendable (Arrivals) -> Void) {
        let descriptor = inotify_init1(CInt(IN_NONBLOCK | IN_CLOEXEC))
        guard descriptor >= 0 else { return nil }
        self.descriptor = descriptor
        let folders = Folders()
        self.folders = folders
        source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
        source.setEventHandler {
            var arrivals = Arrivals()
            withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 8) { buffer in
                while true {
                    let count = read(descriptor, buffer.baseAddress, buffer.count)
                    guard count > 0 else { return }
                    Self.note(UnsafeRawBufferPointer(rebasing: buffer[..<count]), folders.byWatch, &arrivals)
                }
            }
            onEvent(arrivals)
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
    private static func note(_ events: UnsafeRawBufferPointer, _ folders: [CInt: String], _ arrivals: inout Arrivals) {
        let head = MemoryLayout<inotify_event>.size
        var offset = 0
        while offset + head <= events.count {
            let watch = events.loadUnaligned(fromByteOffset: offset, as: CInt.self)
            let mask = events.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
            let length = Int(events.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
            let end = min(offset + head + length, events.count)
            if length > 0, let folder = folders[watch] {
                let name = String(decoding: events[(offset + head)..<end].prefix { $0 != 0 }, as: UTF8.self)
                if mask & UInt32(IN_MOVED_TO) != 0 {
                    arrivals[folder, default: []].insert(name)
                } else if mask & UInt32(IN_CREATE | IN_MODIFY) != 0 {
                    arrivals[folder]?.remove(name)
                }
            }
            offset = end
        }
    }
}
