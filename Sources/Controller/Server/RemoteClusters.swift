import Discovery
import Foundation
public import ObjectSource
import Synchronization

/// The other clusters of the mesh and where their objects come from, folders or API servers.
///
/// A cluster counts once its objects have been read whole, and as it was last known while it cannot be reached.
public final class RemoteClusters: Sendable {
    private struct Member {
        let source: any ObjectSource
        let following: Task<Void, Never>
        /// What was known by another way, until this one knows all.
        let before: ObjectSnapshot?

        var objects: ObjectSnapshot? { source.health.isSynced ? source.snapshot() : before }
    }

    private struct State {
        var members: [String: Member] = [:]
        /// Which clusters there are has been read.
        var isListed: Bool
        var isClosed = false
    }

    /// How one of them fares.
    struct Status: Hashable, Sendable {
        let id: String
        let health: ObjectSourceHealth
    }

    private let state: Mutex<State>
    private let changed = ChangeSignal()
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    /// - Parameter isListed: False when somebody is yet to say which clusters there are (``listed()``).
    public init(isListed: Bool = true) {
        state = Mutex(State(isListed: isListed))
        (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Those whose objects are in folders.
    ///
    /// - Parameters:
    ///   - folders: By cluster: in each `source` and, where there is one, `status`.
    ///   - ownCluster: The name that no other cluster may have.
    /// - Throws: ``ControllerError`` `source`.
    convenience init(folders: [String: String], ownCluster: String) throws(ControllerError) {
        self.init()
        for (id, folder) in folders {
            guard id != ownCluster else {
                throw ControllerError(
                    .source, "another cluster cannot be called \(id)", cause: "this one is",
                    hint: "give --cluster-id, or the other one another name in --remote-cluster")
            }
            let status = "\(folder)/status"
            do {
                set(
                    id,
                    try FolderObjectSource(
                        source: "\(folder)/source",
                        status: FileManager.default.fileExists(atPath: status) ? status : nil))
            } catch {
                throw ControllerError(
                    .source, "the objects of cluster \(id) cannot be read", cause: "\(error)",
                    hint: "--remote-cluster names a folder with a folder source in it")
            }
        }
    }

    /// Follows a cluster's objects, in place of any that it was followed by before.
    public func set(_ id: String, _ source: any ObjectSource) {
        let following = Task { [weak self] in
            for await _ in source.snapshots() { self?.notify() }
        }
        let superseded: Task<Void, Never>? = state.withLock { state in
            guard !state.isClosed else { return following }
            let old = state.members[id]
            state.members[id] = Member(source: source, following: following, before: old?.objects)
            return old?.following
        }
        superseded?.cancel()
        notify()
    }

    /// Forgets a cluster and all it brought.
    public func remove(_ id: String) {
        guard let old = state.withLock({ $0.members.removeValue(forKey: id) }) else { return }
        old.following.cancel()
        notify()
    }

    /// All clusters there are now have been named.
    public func listed() {
        state.withLock { $0.isListed = true }
        notify()
    }

    public func close() {
        let members = state.withLock { state in
            state.isClosed = true
            defer { state.members = [:] }
            return state.members.values
        }
        for member in members { member.following.cancel() }
        continuation.finish()
    }

    /// Those whose objects are known, in order of their names.
    func clusters() -> [RemoteCluster] {
        let members = state.withLock { $0.members }
        return members.sorted { $0.key < $1.key }.compactMap { id, member in
            member.objects.map { RemoteCluster(id: id, objects: $0) }
        }
    }

    var statuses: [Status] {
        state.withLock { $0.members }.sorted { $0.key < $1.key }.map {
            Status(id: $0.key, health: $0.value.source.health)
        }
    }

    /// For one reader: something may differ.
    var changes: AsyncStream<Void> { stream }

    /// Waits until every cluster's objects are known, so that proxies are not told of less than they were told before.
    ///
    /// - Returns: Who is still missing when the time is over.
    func waitUntilKnown(timeout: Duration) async -> [String] {
        @Sendable func missing() -> [String] {
            let (isListed, members) = state.withLock { ($0.isListed, $0.members) }
            return (isListed ? [] : ["the list of clusters"])
                + members.filter { !$0.value.source.health.isSynced }.keys.sorted()
        }
        _ = await changed.wait(timeout: timeout) { missing().isEmpty }
        return missing()
    }

    private func notify() {
        changed.notify()
        continuation.yield()
    }
}
