import Dispatch
import Glibc

/// Tells that something has happened in folders (inotify); what it was is for a look to find out.
final class FolderChanges {
    private let descriptor: CInt
    private let source: any DispatchSourceRead

    /// `nil` when the kernel has no watch left for us: then only the timer sees changes.
    ///
    /// - Parameter onChange: Called on a queue of its own; several changes may be one call.
    init?(onChange: @escaping @Sendable () -> Void) {
        let descriptor = inotify_init1(CInt(IN_NONBLOCK | IN_CLOEXEC))
        guard descriptor >= 0 else { return nil }
        self.descriptor = descriptor
        source = DispatchSource.makeReadSource(
            fileDescriptor: descriptor, queue: DispatchQueue(label: "apus.installer"))
        source.setEventHandler {
            var buffer = [UInt8](repeating: 0, count: 8 << 10)
            while read(descriptor, &buffer, buffer.count) > 0 {}
            onChange()
        }
        source.setCancelHandler { close(descriptor) }
        source.resume()
    }

    deinit { source.cancel() }

    /// Watches a folder; again follows one that was replaced. Not being able to is no error: there is the timer.
    func watch(_ path: String) {
        let mask =
            IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ATTRIB | IN_DELETE_SELF
            | IN_MOVE_SELF
        _ = inotify_add_watch(descriptor, path, UInt32(mask))
    }
}
