import Discovery
import Foundation
import Kubernetes
import LinuxNetwork
import Logging
import ObjectSource
import Observability
import Synchronization

/// Writes the conditions into the objects' status, for as long as this program leads.
///
/// What is there is read first, so that only differences are written, whoever led before; it is read anew every half
/// hour, should somebody else have written there.
final class ConditionWriter: Sendable {
    private struct State {
        var book = ConditionBook()
        /// Kinds that have been read, and the version that the server has them in.
        var read: [ObjectKind: APIResource] = [:]
    }

    static let relistInterval = Duration.seconds(1800)

    private let client: KubernetesClient
    private let counter: CounterFamily
    private let log: Logger
    private let writer: PacedWriter<ConditionBook.Place>
    private let state = Mutex(State())
    private let wanted = ChangeSignal()

    /// - Parameter counter: Of writings, by `outcome`.
    init(_ client: KubernetesClient, counter: CounterFamily, log: Logger) {
        self.client = client
        self.counter = counter
        self.log = log
        writer = PacedWriter("a condition", log: log)
    }

    /// Takes what is to be written from now on.
    func want(_ conditions: [ObjectCondition]) {
        state.withLock { $0.book.want(conditions) }
        writer.notify()
        wanted.notify()
    }

    /// Reads and writes until the task is cancelled.
    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.read() }
            group.addTask {
                await self.writer.run(due: { self.due() }) { place throws(KubernetesError) in
                    try await self.write(place)
                }
            }
        }
    }

    // MARK: Reading

    private func read() async {
        while !Task.isCancelled {
            for kind in ConditionBook.kinds { await read(kind) }
            let end = ContinuousClock.now + Self.relistInterval * Double.random(in: 0.8...1.2)
            var backoff = Backoff(shortest: .milliseconds(200), longest: .seconds(60))
            // A kind that was not there has come when there is something to write to one of its objects.
            while !Task.isCancelled, ContinuousClock.now < end {
                guard await wanted.wait(timeout: end - .now, until: { !self.unread().isEmpty }) else { continue }
                for kind in unread() { await read(kind) }
                if !unread().isEmpty { await Self.rest(backoff.next()) }
            }
        }
    }

    /// Kinds that something is to be written to and that have not been read.
    private func unread() -> [ObjectKind] {
        state.withLock { state in
            Set(state.book.due.map(\.object.kind)).filter { state.read[$0] == nil }
                .sorted { $0.rawValue < $1.rawValue }
        }
    }

    private func read(_ kind: ObjectKind) async {
        var backoff = Backoff(shortest: .milliseconds(200), longest: .seconds(60))
        var version = 0
        while !Task.isCancelled, version < kind.apiVersions.count {
            let resource = APIResource(kind, apiVersion: kind.apiVersions[version])
            do throws(KubernetesError) {
                var page = try await client.list(resource)
                take(page, kind)
                while let token = page.next {
                    page = try await client.list(resource, after: token)
                    take(page, kind)
                }
                state.withLock { $0.read[kind] = resource }
                return writer.notify()
            } catch {
                if error.code == .notFound {
                    // Another version of the kind, or none at all: then there is nothing to write to.
                    version += 1
                    continue
                }
                if Task.isCancelled { return }
                log.warning(
                    "conditions cannot be read yet", metadata: ["kind": "\(kind.rawValue)", "error": "\(error)"])
                await Self.rest(backoff.next(atLeast: .seconds(min(error.retryAfter ?? 0, 60))))
            }
        }
    }

    private func take(_ page: ListPage, _ kind: ObjectKind) {
        state.withLock { state in
            for node in page.items {
                guard let name = node["metadata"]?["name"]?.string else { continue }
                let place = ObjectName(namespace: node["metadata"]?["namespace"]?.string ?? "", name: name)
                state.book.found(ObjectKey(kind: kind, name: place), node)
            }
        }
    }

    // MARK: Writing

    /// Before a kind is read, what is there already would be written again.
    private func due() -> [ConditionBook.Place] {
        state.withLock { state in state.book.due.filter { state.read[$0.object.kind] != nil } }
    }

    private func write(_ place: ConditionBook.Place) async throws(KubernetesError) {
        let work: (ConditionBook.Set, APIResource)? = state.withLock { state in
            guard state.book.due.contains(place), let resource = state.read[place.object.kind] else { return nil }
            return (state.book.set(for: place, at: Date().formatted(.iso8601)), resource)
        }
        guard let (set, resource) = work else { return }
        do throws(KubernetesError) {
            try await client.patch(
                resource, place.object.name.name, ConditionBook.patch(place, set, as: resource),
                namespace: place.object.name.namespace, subresource: "status", manager: place.reporter.rawValue)
        } catch {
            // It is gone; should it come back, so does its condition.
            if error.code == .notFound { return state.withLock { $0.book.forget(place) } }
            counter.with(["failed"]).increment()
            throw error
        }
        state.withLock { $0.book.wrote(place, set) }
        counter.with(["written"]).increment()
    }

    /// Ends early when the task is cancelled, which the loops see.
    private static func rest(_ pause: Duration) async { try? await Task.sleep(for: pause) }
}
