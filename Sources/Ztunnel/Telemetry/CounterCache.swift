import LinuxNetwork
import Mesh
import Observability

/// One worker's way to its counters, so that a connection like one before does not spell out its labels again.
final class CounterCache {
    struct Key: Hashable {
        let reporter: TelemetryLabels.Reporter
        let source: TelemetryLabels.Peer.Key
        let destination: TelemetryLabels.Peer.Key
        let service: NamespacedHostname?
        let security: TelemetryLabels.Security
    }

    private struct Entry {
        let counters: ConnectionCounters
        /// In which of the times between two ``trim()``s it was used last.
        var usedIn: Int
    }

    /// Beyond this the cache starts anew; the counters themselves live in the registry.
    private static let limit = 8192
    /// Entries not used for so many trims go.
    private static let idleTrims = 20

    private let metrics: ConnectionMetrics
    private var entries: [Key: Entry] = [:]
    private var trims = 0

    init(_ metrics: ConnectionMetrics) { self.metrics = metrics }

    var count: Int { entries.count }

    func counters(
        _ reporter: TelemetryLabels.Reporter, source: Party, destination: Party, service: Service?,
        security: TelemetryLabels.Security
    ) -> ConnectionCounters {
        let key = Key(
            reporter: reporter, source: source.key, destination: destination.key, service: service?.key,
            security: security)
        if let known = entries[key], !known.counters.isRetired {
            if known.usedIn != trims { entries[key]?.usedIn = trims }
            return known.counters
        }
        if entries.count >= Self.limit { entries = [:] }
        let labels = TelemetryLabels(
            reporter: reporter, source: source.peer, destination: destination.peer, service: service,
            security: security)
        let made = metrics.counters(labels, source: source, destination: destination, now: MonotonicClock.now)
        entries[key] = Entry(counters: made, usedIn: trims)
        return made
    }

    /// Lets go what was not used for long, and with it the records of workloads that are gone. Called now and then.
    func trim() {
        trims += 1
        entries = entries.filter { !$0.value.counters.isRetired && trims - $0.value.usedIn <= Self.idleTrims }
    }
}

extension TelemetryLabels.Peer {
    /// What tells peers apart at a glance: the record (by its address in memory, which the key keeps alive) and the
    /// identity proven.
    struct Key: Hashable {
        let workload: Workload?
        let principal: SPIFFEIdentity?
        let said: Baggage?

        static func == (left: Key, right: Key) -> Bool {
            left.workload === right.workload && left.principal == right.principal && left.said == right.said
        }
        func hash(into hasher: inout Hasher) {
            hasher.combine(workload.map { ObjectIdentifier($0) })
            hasher.combine(principal)
        }
    }
}

/// One end of a connection, as telemetry sees it.
struct Party {
    var workload: Workload?
    /// Proven by TLS, or for our own side what we prove.
    var principal: SPIFFEIdentity?
    /// What a peer said of itself; counts only where no record says otherwise.
    var baggage: Baggage?

    var key: TelemetryLabels.Peer.Key { .init(workload: workload, principal: principal, said: baggage) }

    var peer: TelemetryLabels.Peer {
        if let baggage { return .init(baggage, workload: workload, principal: principal) }
        return workload.map { .init($0, principal: principal) } ?? .init(principal: principal)
    }
}
