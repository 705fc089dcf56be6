import LinuxNetwork
public import Logging
public import ObjectSource

/// Follows a few objects of a kind that the mesh does not model: lists, watches, and begins again whatever happens.
public struct ObjectFollower: Sendable {
    public enum News: Sendable {
        /// All there are, in place of what was told before.
        case all([DocumentNode])
        case changed(DocumentNode)
        case gone(DocumentNode)
    }

    private let client: KubernetesClient
    private let resource: APIResource
    private let selection: ObjectSelection
    private let settings: ReflectorSettings
    private let log: Logger

    public init(
        _ client: KubernetesClient, _ resource: APIResource, _ selection: ObjectSelection,
        settings: ReflectorSettings = ReflectorSettings(), log: Logger
    ) {
        self.client = client
        self.resource = resource
        self.selection = selection
        self.settings = settings
        self.log = log
    }

    /// Runs until the task is cancelled. What is told is told one after the other.
    public func run(_ tell: @escaping @Sendable (News) async -> Void) async {
        var backoff = Backoff(shortest: settings.shortestPause, longest: settings.longestPause)
        var told: KubernetesError.Code?
        while !Task.isCancelled {
            do throws(KubernetesError) {
                try await follow(tell, &backoff)
                told = nil
            } catch {
                if Task.isCancelled { return }
                // A version that is no longer kept is nothing that anybody has to see to.
                if error.code != told, error.code != .expired {
                    log.warning(
                        "objects cannot be followed; what was last known stands",
                        metadata: ["resource": "\(resource)", "error": "\(error)"])
                    told = error.code
                }
                // Ends early when the task is cancelled, which the loop sees.
                try? await Task.sleep(for: backoff.next(atLeast: .seconds(min(error.retryAfter ?? 0, 60))))
            }
        }
    }

    /// One list and the watches that go on from it, until an error or until the list is due again.
    private func follow(
        _ tell: @escaping @Sendable (News) async -> Void, _ backoff: inout Backoff
    ) async throws(KubernetesError) {
        var items: [DocumentNode] = []
        var page = try await client.list(resource, selection)
        items += page.items
        while let token = page.next {
            page = try await client.list(resource, selection, after: token)
            items += page.items
        }
        await tell(.all(items))
        var version = page.version
        let end = ContinuousClock.now + settings.relistInterval
        while ContinuousClock.now < end, !Task.isCancelled {
            let start = ContinuousClock.now
            try await client.watch(
                resource, selection, from: version, limit: settings.watchTime * Double.random(in: 1...2)
            ) { event in
                version = event.object.resourceVersion
                switch event.kind {
                case .added, .modified: await tell(.changed(event.object))
                case .deleted: await tell(.gone(event.object))
                case .bookmark: break
                }
            }
            // A server that ends watches as soon as they begin is not asked again at once.
            if ContinuousClock.now - start > .seconds(1) {
                backoff.reset()
            } else {
                // Ends early when the task is cancelled, which the loop sees.
                try? await Task.sleep(for: backoff.next())
            }
        }
    }
}
