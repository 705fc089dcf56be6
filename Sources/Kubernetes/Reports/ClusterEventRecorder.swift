import Foundation
import LinuxNetwork
import Logging
import ObjectSource
import Synchronization

/// Writes Events on objects. Recording never waits: events are written one after the other behind it, tried again while the
/// server is away, and the oldest are dropped when too many wait.
public final class ClusterEventRecorder: PodEventRecorder {
    /// Events that may wait.
    static let maximumWaiting = 1024
    static let attempts = 8

    private let queue: AsyncStream<ObjectEvent>.Continuation
    private let worker: Task<Void, Never>

    /// - Parameters:
    ///   - component: Who reports: `apus-agent`.
    ///   - instance: Which of them: the node's name.
    public init(
        _ client: KubernetesClient, component: String, instance: String, log: Logger = Logger(label: "events")
    ) {
        let (events, queue) = AsyncStream.makeStream(
            of: ObjectEvent.self, bufferingPolicy: .bufferingNewest(Self.maximumWaiting))
        self.queue = queue
        let writer = EventWriter(client: client, component: component, instance: instance, log: log)
        worker = Task {
            var book = EventBook()
            for await event in events { await writer.write(event, &book) }
        }
    }

    deinit { close() }

    public func record(_ event: PodEvent) async throws(ObjectSourceError) { record(ObjectEvent(event)) }

    public func record(_ event: ObjectEvent) { queue.yield(event) }

    /// Drops what waits.
    public func close() {
        queue.finish()
        worker.cancel()
    }
}

private struct EventWriter: Sendable {
    let client: KubernetesClient
    let component: String
    let instance: String
    let log: Logger

    func write(_ event: ObjectEvent, _ book: inout EventBook) async {
        let now = Date()
        let suffix = String(UInt64.random(in: .min ... .max), radix: 16)
        guard let entry = book.note(event, at: now.timeIntervalSince1970, suffix: suffix) else { return }
        var backoff = Backoff(shortest: .milliseconds(200), longest: .seconds(30))
        for attempt in 1...ClusterEventRecorder.attempts where !Task.isCancelled {
            do throws(KubernetesError) {
                try await put(entry, event, now)
                return book.written(event)
            } catch {
                switch error.code {
                case .conflict where isCreation(entry): return book.written(event)
                case .notFound:
                    // The Event has run out, or the namespace is on its way out.
                    return book.forget(event)
                case .unreachable, .timeout, .serverError, .tooManyRequests, .unauthorized:
                    guard attempt < ClusterEventRecorder.attempts else { fallthrough }
                    // Ends early when the recorder is closed, which the loop sees.
                    try? await Task.sleep(for: backoff.next(atLeast: .seconds(min(error.retryAfter ?? 0, 60))))
                default:
                    log.warning(
                        "an event cannot be written",
                        metadata: [
                            "object": "\(event.subject.kind) \(event.subject.name)", "reason": "\(event.reason)",
                            "message": "\(event.message)",
                            "error": "\(error)",
                        ])
                    return book.forget(event)
                }
            }
        }
    }

    private func isCreation(_ entry: EventBook.Entry) -> Bool {
        if case .create = entry { true } else { false }
    }

    private func put(_ entry: EventBook.Entry, _ event: ObjectEvent, _ date: Date) async throws(KubernetesError) {
        let now = date.formatted(.iso8601)
        let subject = event.subject
        // Events on what is in no namespace lie in this one.
        let namespace = subject.name.namespace.isEmpty ? "default" : subject.name.namespace
        switch entry {
        case .create(let name, let count):
            var object: [String: JSON] = [
                "apiVersion": .string(subject.apiVersion), "kind": .string(subject.kind),
                "name": .string(subject.name.name), "namespace": .string(subject.name.namespace),
            ]
            if !subject.uid.isEmpty { object["uid"] = .string(subject.uid) }
            try await client.create(
                .events,
                [
                    "apiVersion": "v1", "kind": "Event",
                    "metadata": ["name": .string(name), "namespace": .string(namespace)],
                    "involvedObject": .object(object), "type": .string(event.type), "reason": .string(event.reason),
                    "message": .string(EventText.bounded(event.message)), "count": .integer(count),
                    "firstTimestamp": .string(now), "lastTimestamp": .string(now),
                    "source": ["component": .string(component), "host": .string(instance)],
                    "reportingComponent": .string(component), "reportingInstance": .string(instance),
                ], namespace: namespace)
        case .update(let name, let count):
            try await client.patch(
                .events, name,
                .merge([
                    "count": .integer(count), "lastTimestamp": .string(now),
                    "message": .string(EventText.bounded(event.message)),
                ]), namespace: namespace)
        }
    }
}

enum EventText {
    /// The API takes 1024 bytes.
    static func bounded(_ message: String) -> String {
        guard message.utf8.count > 1024 else { return message }
        var text = message
        while text.utf8.count > 1021 { text.removeLast() }
        return text + "..."
    }
}
