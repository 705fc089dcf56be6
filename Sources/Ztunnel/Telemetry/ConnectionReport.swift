import Addressing
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// The account of one connection: counts its bytes as they pass, and closes with exactly one line in the access log and
/// one step of the closed counter, whatever happened. Letting it go unfinished counts as a drain.
final class ConnectionReport: RelayMeter {
    /// How a connection failed.
    struct Failure {
        let text: String
        let flag: TelemetryLabels.ResponseFlag
    }

    private let log: AccessLog
    private let counters: ConnectionCounters
    private var record: AccessRecord
    private let startedAt: UInt64
    private var finished = false
    private var request: UInt64 = 0
    private var response: UInt64 = 0
    /// Of the two ways through a tunnel, into it is the request at the source and the response at the destination.
    private let intoTunnelIsRequest: Bool

    init(
        log: AccessLog, counters: ConnectionCounters, record: AccessRecord, startedAt: UInt64
    ) {
        self.log = log
        self.counters = counters
        self.record = record
        self.startedAt = startedAt
        intoTunnelIsRequest = record.direction == .outbound
        counters.opened.add(1)
        if log.isWritten(.debug) {
            var opened = record
            opened.kind = .opened
            opened.time = .now
            log.write(opened)
        }
    }

    deinit {
        finish(Failure(text: "connection closed due to connection drain", flag: .none), counts: false)
    }

    // MARK: Bytes

    /// Whether any have passed, either way.
    private(set) var hasMoved = false
    /// What learns from the first of them which side speaks first.
    var facts: InboundFacts?

    private func began(withClient: Bool) {
        hasMoved = true
        facts?.clientSpeaksFirst = withClient
        facts = nil
    }

    func toTunnel(_ bytes: Int) { if intoTunnelIsRequest { requestBytes(bytes) } else { responseBytes(bytes) } }
    func fromTunnel(_ bytes: Int) { if intoTunnelIsRequest { responseBytes(bytes) } else { requestBytes(bytes) } }

    /// From the client towards the server.
    func requestBytes(_ count: Int) {
        if !hasMoved { began(withClient: true) }
        request += UInt64(count)
        counters.received.add(UInt64(count))
    }

    /// From the server towards the client.
    func responseBytes(_ count: Int) {
        if !hasMoved { began(withClient: false) }
        response += UInt64(count)
        counters.sent.add(UInt64(count))
    }

    private var seenMoved: UInt64 = 0
    private var seenAt: UInt64 = 0

    /// Whether nothing has moved for so long, in nanoseconds; exact to the time between two questions.
    func isIdle(for limit: UInt64, at now: UInt64) -> Bool {
        let moved = request &+ response
        guard moved == seenMoved, seenAt != 0 else {
            seenMoved = moved
            seenAt = now
            return false
        }
        return now - seenAt >= limit
    }

    // MARK: The end

    func finish(_ failure: Failure?) { finish(failure, counts: true) }

    /// This attempt failed and another follows, whose report writes the line of the connection.
    func abandon(_ failure: Failure) {
        guard !finished else { return }
        finished = true
        counters.closed.add(1)
        counters.failed(failure.flag)
    }

    private func finish(_ failure: Failure?, counts: Bool) {
        guard !finished else { return }
        finished = true
        let flag = failure?.flag ?? .none
        counters.closed.add(1)
        if failure != nil, counts { counters.failed(flag) }
        record.time = .now
        record.error = failure?.text
        record.durationMilliseconds = (MonotonicClock.now - startedAt) / 1_000_000
        // The log tells what this side's proxy sent onwards: the request at the source, the response at the destination.
        record.bytesSent = intoTunnelIsRequest ? request : response
        record.bytesReceived = intoTunnelIsRequest ? response : request
        log.write(record)
    }
}

extension AccessRecord.Source {
    /// - Parameter address: Nil where it is put in later.
    init(_ address: Endpoint?, _ party: Party, mutualTLS: Bool) {
        let peer = party.peer
        self.init(
            address: address?.description ?? "", workload: party.workload?.name ?? peer.canonicalName.nonEmpty,
            namespace: peer.namespace.nonEmpty, identity: mutualTLS ? party.principal?.description : nil,
            cluster: peer.clusterID.nonEmpty)
    }
}

extension AccessRecord.Destination {
    init(
        _ address: Endpoint, _ party: Party, authority: String?, service: Service?, mutualTLS: Bool
    ) {
        let peer = party.peer
        self.init(
            address: address.description, hboneAddress: authority, service: service?.hostname,
            workload: party.workload?.name ?? peer.canonicalName.nonEmpty, namespace: peer.namespace.nonEmpty,
            identity: mutualTLS ? party.principal?.description : nil, cluster: peer.clusterID.nonEmpty)
    }
}

extension AccessRecord.Trace {
    init(_ parent: TraceParent) { self.init(high: parent.traceHigh, low: parent.traceLow) }
}

extension String {
    fileprivate var nonEmpty: String? { isEmpty ? nil : self }
}
