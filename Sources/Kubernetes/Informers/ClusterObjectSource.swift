import Logging
import ObjectSource

/// The objects of a cluster, as its API server has them.
///
/// Nothing is told before every kind has been read whole: a snapshot of some kinds would say that there are none of the
/// others. While the server is away, what was last known stands; ``health`` says since when.
public final class ClusterObjectSource: ObjectSource {
    /// A kind to follow, and which of its objects.
    public struct Interest: Sendable {
        public var kind: ObjectKind
        public var selection: ObjectSelection

        public init(_ kind: ObjectKind, _ selection: ObjectSelection = ObjectSelection()) {
            self.kind = kind
            self.selection = selection
        }
    }

    private let board: SnapshotBoard
    private let reflectors: Task<Void, Never>

    /// Begins to follow the kinds at once.
    public init(
        _ client: KubernetesClient, _ interests: [Interest], settings: ReflectorSettings = ReflectorSettings(),
        log: Logger = Logger(label: "objects")
    ) {
        let board = SnapshotBoard(kinds: Set(interests.map(\.kind)), log: log)
        self.board = board
        reflectors = Task {
            await withTaskGroup(of: Void.self) { group in
                for interest in interests {
                    let reflector = Reflector(
                        kind: interest.kind, selection: interest.selection, client: client, settings: settings
                    ) { board.heard($0, of: interest.kind) }
                    group.addTask { await reflector.run() }
                }
            }
        }
    }

    deinit { close() }

    /// Everything that has been heard up to now; empty until all kinds have been read.
    public func snapshot() -> ObjectSnapshot { board.snapshot() }

    /// The first comes when all kinds have been read.
    public func snapshots() -> AsyncStream<ObjectSnapshot> { board.snapshots() }

    public var health: ObjectSourceHealth { board.health }

    /// Waits until all kinds have been read whole.
    /// - Returns: False when the source is closed or the task cancelled before.
    public func waitUntilSynced() async -> Bool {
        for await _ in snapshots() { return true }
        return false
    }

    /// Ends the watches and every stream. The last snapshot stays.
    public func close() {
        reflectors.cancel()
        board.close()
    }
}
