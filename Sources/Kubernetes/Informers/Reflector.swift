import LinuxNetwork
import Logging
import ObjectSource

/// Times of a reflector.
public struct ReflectorSettings: Sendable {
    /// After a failure, from and to.
    public var shortestPause = Duration.milliseconds(100)
    public var longestPause = Duration.seconds(30)
    /// A watch is asked to end after this long at the earliest, and twice as long at the latest.
    public var watchTime = Duration.seconds(300)
    /// How often a list is read anew although nothing seems amiss, should an event have been lost on its way. Looked at
    /// when a watch ends.
    public var relistInterval = Duration.seconds(1800)
    /// How often it is looked whether a kind that the server does not have has come.
    public var missingKindInterval = Duration.seconds(30)
    /// How long a kind that was there must be missing before its objects count as gone: a server that is starting may not
    /// know all of its kinds yet.
    public var missingKindGrace = Duration.seconds(120)

    public init() {}
}

/// Keeps one kind of objects as a server has them: lists, watches, and begins again whatever happens.
struct Reflector: Sendable {
    enum News: Sendable {
        case change(Reflection.Change)
        /// The server was heard from.
        case contact
        case problem(KubernetesError)
    }

    let kind: ObjectKind
    let selection: ObjectSelection
    let client: KubernetesClient
    let settings: ReflectorSettings
    let tell: @Sendable (News) -> Void

    /// What changes from step to step.
    private struct State {
        var reflection = Reflection()
        var sharing = Sharing()
        var lastList: ContinuousClock.Instant?
        /// Which of the kind's versions is asked for.
        var apiVersion = 0
        /// The server has said that there is no such kind, in any version, so many times in a row.
        var denials = 0
        var deniedSince: ContinuousClock.Instant?
    }

    /// How often a server must deny a kind before it is believed.
    static let patience = 3

    /// Runs until the task is cancelled.
    func run() async {
        var state = State()
        var backoff = Backoff(shortest: settings.shortestPause, longest: settings.longestPause)
        while !Task.isCancelled {
            // However the last watch ended.
            if case .watch = state.reflection.step, let last = state.lastList,
                ContinuousClock.now - last > settings.relistInterval
            {
                state.reflection.relist()
            }
            var pause: Duration?
            do throws(KubernetesError) {
                switch state.reflection.step {
                case .list(let token): try await list(after: token, &state)
                case .watch(let version):
                    let start = ContinuousClock.now
                    let heard = try await watch(from: version, &state)
                    // A server that ends watches as soon as they begin is not asked again at once.
                    if heard || ContinuousClock.now - start > .seconds(1) {
                        backoff.reset()
                    } else {
                        pause = backoff.next()
                    }
                }
            } catch {
                if Task.isCancelled { return }
                pause = failed(error, &state, &backoff)
            }
            // Ends early when the task is cancelled, which the loop sees.
            if let pause { try? await Task.sleep(for: pause) }
        }
    }

    private func failed(_ error: KubernetesError, _ state: inout State, _ backoff: inout Backoff) -> Duration {
        if error.code == .notFound { return kindIsDenied(error, &state, &backoff) }
        state.reflection.failed(error)
        // A version that is no longer kept is nothing that anybody has to see to.
        if error.code == .expired { tell(.contact) } else { tell(.problem(error)) }
        return backoff.next(atLeast: .seconds(min(error.retryAfter ?? 0, 60)))
    }

    /// The server is there and has no such kind: a definition that nobody has installed, one of another version, or one
    /// that is not there yet.
    private func kindIsDenied(_ error: KubernetesError, _ state: inout State, _ backoff: inout Backoff) -> Duration {
        state.reflection.relist()
        state.apiVersion += 1
        guard state.apiVersion >= kind.apiVersions.count else { return .zero }
        state.apiVersion = 0
        state.denials += 1
        let since = state.deniedSince ?? .now
        state.deniedSince = since
        let grace = state.reflection.isEmpty ? .zero : settings.missingKindGrace
        guard state.denials >= Self.patience, ContinuousClock.now - since >= grace else {
            if !state.reflection.isEmpty { tell(.problem(error)) }
            return backoff.next()
        }
        tell(.contact)
        tell(.change(state.reflection.kindIsMissing()))
        return settings.missingKindInterval * Double.random(in: 0.75...1.25)
    }

    private func resource(_ state: State) -> APIResource {
        APIResource(kind, apiVersion: kind.apiVersions[state.apiVersion])
    }

    private func list(after token: String?, _ state: inout State) async throws(KubernetesError) {
        let page = try await client.list(resource(state), selection, after: token)
        tell(.contact)
        (state.denials, state.deniedSince) = (0, nil)
        var items: [Reflection.Item] = []
        items.reserveCapacity(page.items.count)
        for node in page.items {
            if let item = item(node, &state.sharing) { items.append(item) }
        }
        if let change = state.reflection.listed(items, version: page.version, next: page.next) {
            state.lastList = ContinuousClock.now
            tell(.change(change))
        }
    }

    /// - Returns: Whether there was anything to hear.
    private func watch(from version: String, _ state: inout State) async throws(KubernetesError) -> Bool {
        var heard = false
        try await client.watch(
            resource(state), selection, from: version, limit: settings.watchTime * Double.random(in: 1...2),
            opened: { self.tell(.contact) }
        ) { event in
            heard = true
            self.tell(.contact)
            let version = event.object.resourceVersion
            guard event.kind != .bookmark else { return state.reflection.bookmark(version: version) }
            guard let item = self.item(event.object, &state.sharing) else { return }
            if let change = state.reflection.received(event.kind, item, version: version) {
                self.tell(.change(change))
            }
        }
        return heard
    }

    /// `nil` for what has no name, which no server sends.
    private func item(_ node: DocumentNode, _ sharing: inout Sharing) -> Reflection.Item? {
        guard let metadata = node["metadata"], let name = metadata["name"]?.string, !name.isEmpty else { return nil }
        let place = ObjectName(
            namespace: kind.isNamespaced ? metadata["namespace"]?.string ?? "default" : "", name: name)
        let content: Result<KubernetesObject, ObjectProblem>
        do throws(ObjectProblem) {
            let object = try KubernetesObject(
                kind, served: node, name: ObjectKey(kind: kind, name: place).description)
            content = .success(sharing.share(object))
        } catch {
            content = .failure(error)
        }
        return Reflection.Item(
            name: place, version: metadata["resourceVersion"]?.string.flatMap { UInt64($0) } ?? 0, content: content)
    }
}
