import Dispatch
import Glibc

/// Tells that something happened in folders (inotify). What it was is for a scan to find out.
final class FolderWatch {
    private let source: any DispatchSourceRead
    private let descriptor: CInt
    private var watches: [String: CInt] = [:]

    /// `nil` when the kernel has none left for us: then only the slow poll sees changes.
    ///
    /// - Parameter onEvent: Called on `queue` after events; several may be one call.
    init?(queue: DispatchQueue, onEvent: @escaping @Sendable () -> Void) {
        let descriptor = inotify_init1(CInt(IN_NONBLOCK | IN_CLOEXEC))
        guard descriptor >= 0 else { return nil }
        self.descriptor = descriptor
        source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
        source.setEventHandler {
            // The events themselves are of no use; they are only taken out of the queue.
            withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 8) { buffer in
                while read(descriptor, buffer.baseAddress, buffer.count) > 0 {}
            }
            onEvent()
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
        if watch >= 0 { watches[path] = watch }
        return watch >= 0
    }
}
