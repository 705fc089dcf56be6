import Foundation
import Glibc
import Synchronization

/// Events as files in `events/` of the status folder, one for each pod and reason: what the API keeps for an hour is
/// kept for an hour here too.
extension FolderStatusWriter: PodEventRecorder {
    static let eventsFolder = "events"
    static let eventLife: TimeInterval = 3600

    /// When old events were last looked for: not at every new one, of which a label brings hundreds.
    final class Sweep: Sendable {
        private static let pause = Duration.seconds(60)
        private let last = Mutex<ContinuousClock.Instant?>(nil)

        func isDue() -> Bool {
            last.withLock { last in
                let now = ContinuousClock.now
                if let last, now - last < Self.pause { return false }
                last = now
                return true
            }
        }
    }

    public func record(_ event: PodEvent) throws(ObjectSourceError) {
        try Self.checkName(event.pod.name)
        let reason = event.reason.lowercased()
        guard ObjectMeta.isName(reason, limit: 63, dots: false) else {
            throw ObjectSourceError(.invalidName, "\"\(event.reason)\" is no reason of an event")
        }
        let events = "\(folder)/\(Self.eventsFolder)"
        guard mkdir(events, 0o755) == 0 || errno == EEXIST else {
            throw ObjectSourceError(.unwritable, "cannot make \(events)", cause: String(cString: strerror(errno)))
        }
        if sweep.isDue() { removeOld(in: events) }
        let now = Date().formatted(.iso8601)
        let pod = event.pod.name
        var text = "apiVersion: v1\nkind: Event\nmetadata:\n"
        text += "  name: \(Self.quoted("\(pod.name).\(reason)"))\n  namespace: \(Self.quoted(pod.namespace))\n"
        text += "involvedObject:\n  apiVersion: v1\n  kind: Pod\n"
        text += "  name: \(Self.quoted(pod.name))\n  namespace: \(Self.quoted(pod.namespace))\n"
        if !event.pod.uid.isEmpty { text += "  uid: \(Self.quoted(event.pod.uid))\n" }
        text += "type: \(event.type)\nreason: \(Self.quoted(event.reason))\nmessage: \(Self.quoted(event.message))\n"
        text += "firstTimestamp: \(Self.quoted(now))\nlastTimestamp: \(Self.quoted(now))\ncount: 1\n"
        text += "source:\n  component: \(Self.quoted("apus-\(reporter)"))\n"
        try write(text, to: "\(events)/\(pod.namespace).\(pod.name).\(reason).yaml")
    }

    /// Best effort: one that stays is looked at again the next time.
    private func removeOld(in events: String) {
        let limit = time_t(Date().timeIntervalSince1970 - Self.eventLife)
        for name in (try? FileManager.default.contentsOfDirectory(atPath: events)) ?? [] {
            var info = stat()
            if lstat("\(events)/\(name)", &info) == 0, info.st_mtim.tv_sec < limit { unlink("\(events)/\(name)") }
        }
    }
}
