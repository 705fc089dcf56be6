import Discovery
import Identity
import Kubernetes
import Logging
import Observability
import Synchronization

/// What the one replica does that leads: conditions, Events, addresses of service entries, the roots in every namespace,
/// and the authority's steps.
final class LeaderDuties: Sendable {
    private struct State {
        var latest: MeshPublisher.Report?
        var work: Work?
    }

    /// Of one term. Each term begins with reading what is there.
    private struct Work: Sendable {
        var conditions: ConditionWriter
        var roots: RootPublisher
        var addresses: AddressWriter
        var events: PolicyEvents

        func take(_ report: MeshPublisher.Report) {
            conditions.want(report.conditions)
            roots.update(report.objects)
            addresses.update(report.objects)
            events.tell(report.warnings, report.objects)
        }
    }

    private let client: KubernetesClient
    private let keeper: AuthorityKeeper
    private let events: PolicyEvents
    private let reflection: ReflectorSettings
    private let log: Logger
    private let state = Mutex(State())

    init(
        _ client: KubernetesClient, _ keeper: AuthorityKeeper, _ recorder: ClusterEventRecorder,
        reflection: ReflectorSettings, log: Logger
    ) {
        self.client = client
        self.keeper = keeper
        self.reflection = reflection
        self.log = log
        events = PolicyEvents(recorder)
    }

    /// What is published, whoever leads.
    func report(_ report: MeshPublisher.Report) {
        state.withLock { state in
            state.latest = report
            state.work?.take(report)
        }
    }

    /// Leads until the task is cancelled.
    ///
    /// - Parameter metrics: Awaited, as the authority has to be made before there is a server that counts.
    func lead(_ metrics: @escaping @Sendable () async -> ControllerMetrics?) async {
        keeper.setLeading(true)
        defer { keeper.setLeading(false) }
        guard let metrics = await metrics() else { return }
        metrics.leads.single.set(1)
        defer { metrics.leads.single.set(0) }
        let work = Work(
            conditions: ConditionWriter(client, counter: metrics.conditions, log: log),
            roots: RootPublisher(client, reflection: reflection, log: log),
            addresses: AddressWriter(client, log: log), events: events)
        state.withLock { state in
            state.work = work
            if let latest = state.latest { work.take(latest) }
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await work.conditions.run() }
            group.addTask { await work.roots.run() }
            group.addTask { await work.addresses.run() }
            group.addTask { await self.followAuthority(work.roots) }
        }
        state.withLock { $0.work = nil }
    }

    private func followAuthority(_ roots: RootPublisher) async {
        while !Task.isCancelled {
            let version = keeper.version
            if let authority = keeper.authority { roots.publish(authority.rootPEM) }
            _ = await keeper.changes.wait(timeout: .seconds(60)) { [keeper] in keeper.version != version }
        }
    }
}
