import Handover
import LinuxNetwork

/// A pod's state as the keeper tells it.
public typealias KeeperPodStatus = Handover.PodStatus

/// What the keeper does for the agent.
public protocol PodKeeper: Sendable {
    /// Makes the pod's sockets, or finds them made. When it returns, connections to them wait to be served.
    func add(_ pod: KeeperPod, in namespace: SharedNamespace) async throws(AgentError) -> KeeperPodStatus
    /// Gives the pod's sockets up; with `drain` when ztunnel has let go of them.
    func remove(uid: String, drain: Bool) async throws(AgentError)
    func list() async throws(AgentError) -> [KeeperPodStatus]
    /// Every pod that is to be there has been added since the keeper came.
    func named() async throws(AgentError)
    /// One reader: what happens from the first call on.
    func events() -> AsyncStream<KeeperEvent>
}

/// News from the keeper.
public enum KeeperEvent: Hashable, Sendable {
    case connected
    /// The keeper is away, and why. Tried again until it is there.
    case disconnected(String)
    case podStatus(KeeperPodStatus)
}

/// The agent's connection to the keeper: made again with back-off whenever it breaks, every request bounded in time.
public final class KeeperClient: PodKeeper {
    private let thread: EventLoopThread<KeeperLink>
    private let stream: AsyncStream<KeeperEvent>

    /// The keeper waits 5 s for ztunnel when it drains; this waits a little longer.
    static let drainTimeout = Duration.seconds(8)
    static let requestTimeout = Duration.seconds(5)
    static let reconnectGrace = Duration.seconds(2)

    /// Starts to connect at once.
    public init(path: String) throws {
        // A reader that falls behind so far misses old states; the list after the next connection mends that.
        let (stream, continuation) = AsyncStream.makeStream(
            of: KeeperEvent.self, bufferingPolicy: .bufferingNewest(16_384))
        self.stream = stream
        thread = try EventLoopThread(name: "agent-keeper") { loop in
            KeeperLink(loop, path: path) { continuation.yield($0) }
        }
        thread.submit { $0.connect() }
    }

    public func events() -> AsyncStream<KeeperEvent> { stream }

    /// Ends the connection. The keeper keeps what it has.
    public func close() {
        thread.submit { $0.end() }
        thread.stop()
    }

    public func add(
        _ pod: KeeperPod, in namespace: SharedNamespace
    ) async throws(AgentError) -> KeeperPodStatus {
        let pods = try await ask(.addPod(pod), namespace, waitsForKeeper: true)
        guard let status = pods.first(where: { $0.uid == pod.uid }) else {
            throw AgentError(.tryAgain, "the keeper took the pod and did not say how it is")
        }
        return status
    }

    public func remove(uid: String, drain: Bool) async throws(AgentError) {
        _ = try await ask(
            .removePod(uid: uid, drain: drain), timeout: drain ? Self.drainTimeout : Self.requestTimeout)
    }

    public func named() async throws(AgentError) { _ = try await ask(.named) }

    public func list() async throws(AgentError) -> [KeeperPodStatus] {
        try await ask(.list)
    }

    /// A keeper that is being started again is worth a moment: else the pod's start fails and is tried much later.
    private func waitForKeeper() async {
        let deadline = ContinuousClock.now + Self.reconnectGrace
        while ContinuousClock.now < deadline, await thread.perform({ $0.isConnected }) == false {
            // Cancelled: the caller is told by what it asks next.
            do { try await Task.sleep(for: .milliseconds(25)) } catch { return }
        }
    }

    private func ask(
        _ command: KeeperRequest.Command, _ namespace: SharedNamespace? = nil,
        timeout: Duration = KeeperClient.requestTimeout, waitsForKeeper: Bool = false
    ) async throws(AgentError) -> [KeeperPodStatus] {
        do {
            return try await askOnce(command, namespace, timeout)
        } catch {
            // Another keeper has taken over in the middle. Every request may be made twice.
            guard error.message == KeeperLink.broke || waitsForKeeper && error.message == KeeperLink.away else {
                throw error
            }
            await waitForKeeper()
            return try await askOnce(command, namespace, timeout)
        }
    }

    private func askOnce(
        _ command: KeeperRequest.Command, _ namespace: SharedNamespace?, _ timeout: Duration
    ) async throws(AgentError) -> [KeeperPodStatus] {
        let result = await withCheckedContinuation { continuation in
            let accepted = thread.submit { link in
                link.ask(command, namespace, timeout) { continuation.resume(returning: $0) }
            }
            if !accepted { continuation.resume(returning: .failure(AgentError(.tryAgain, "the agent is ending"))) }
        }
        return try result.get()
    }
}
