import GRPCCore
import IstioAPI
public import Logging
import Synchronization

/// A connected client, as the server sees it.
public struct DiscoveryClientStatus: Hashable, Sendable {
    public let id: UInt64
    /// Who it proved to be, as the authorization said.
    public let name: String
    /// Who it says it is.
    public let nodeID: String
    /// By type, the generation it has acknowledged.
    public let acknowledged: [String: UInt64]
}

/// Counts of a server, for metrics.
public struct DiscoveryServerCounts: Hashable, Sendable {
    public var clients = 0
    public var responses: UInt64 = 0
    public var resourcesSent: UInt64 = 0
    public var acknowledgements: UInt64 = 0
    public var refusals: UInt64 = 0
}

/// Publishes resources over delta xDS: every client is told what it asked for, then what changes.
public final class DiscoveryServer: Sendable {
    /// Clients at a time; a node has one or, while it is replaced, two.
    public static let maximumClients = 20_000

    private struct State {
        var tables = DiscoveryTables()
        var clients: [UInt64: DiscoveryClientEntry] = [:]
        var nextClient: UInt64 = 0
    }

    private let state = Mutex(State())
    /// One publishes at a time.
    private let publishing = Mutex<Void>(())
    private let total = Mutex(DiscoveryServerCounts())
    private let budget = PushBudget()
    /// Streams that have to look again when what they wait for does not come.
    private let holds = Dictionary(
        uniqueKeysWithValues: PushHold.Reason.allCases.map { ($0, TimeoutQueue(after: $0.patience)) })
    private let acknowledgements = AcknowledgementWaits()
    private let logger: Logger

    public init(logger: Logger) { self.logger = logger }

    // MARK: Publishing

    /// The generations at one moment: what a client must have acknowledged to know all that was published by then.
    public struct Mark: Hashable, Sendable {
        let generations: [String: UInt64]
    }

    /// Makes these all that is published. Clients are sent the differences.
    ///
    /// - Returns: The mark of this state.
    /// - Throws: When a resource cannot be encoded; then nothing is changed.
    @discardableResult
    public func publish(_ resources: [MeshResource]) throws -> Mark {
        try publish { table in try table.difference(to: resources.lazy.filter { $0.typeURL == table.typeURL }) }
    }

    /// Changes some of what is published and leaves the rest as it is.
    ///
    /// - Parameters:
    ///   - resources: What is new or may differ.
    ///   - removed: By type, names of what is gone; unknown ones count for nothing.
    /// - Returns: The mark of this state.
    /// - Throws: When a resource cannot be encoded; then nothing is changed.
    @discardableResult
    public func publish(_ resources: [MeshResource], removing removed: [String: Set<String>]) throws -> Mark {
        try publish { table in
            try table.difference(
                setting: resources.lazy.filter { $0.typeURL == table.typeURL }, removing: removed[table.typeURL] ?? [])
        }
    }

    private func publish(_ difference: (ResourceTable) throws -> ResourceTable.Difference) throws -> Mark {
        try publishing.withLock { _ in
            // On a copy, while clients are served; it is let go of before the tables are changed in place.
            let differences = try state.withLock { $0.tables }.differences(difference)
            return state.withLock { Self.apply(differences, to: &$0) }
        }
    }

    private static func apply(_ differences: DiscoveryTables.Differences, to state: inout State) -> Mark {
        state.tables.apply(differences)
        if !differences.isEmpty {
            for client in state.clients.values { client.wake.yield() }
        }
        return Mark(generations: state.tables.generations)
    }

    /// The mark of what is published now.
    public var mark: Mark { state.withLock { Mark(generations: $0.tables.generations) } }

    /// All that is published, by type and name.
    public var resources: [MeshResource] {
        state.withLock { $0.tables }.resources
    }

    // MARK: Clients

    public var clients: [DiscoveryClientStatus] {
        state.withLock { $0.clients }.sorted { $0.key < $1.key }.map(\.value.status)
    }

    public var counts: DiscoveryServerCounts {
        var counts = total.withLock { $0 }
        counts.clients = state.withLock { $0.clients.count }
        return counts
    }

    /// Waits until every client that is connected now has acknowledged what was published up to `mark`, of the types
    /// it asked for. Clients that go away meanwhile are not waited for.
    ///
    /// - Returns: The names of clients that had not when the time was over; empty when all have.
    public func waitUntilAcked(_ mark: Mark, timeout: Duration) async -> [String] {
        let concerned = state.withLock { Array($0.clients.values) }
        return await acknowledgements.wait(for: mark, of: concerned, timeout: timeout)
    }

    // MARK: A stream

    /// Serves one stream until the client ends it or the task is cancelled.
    ///
    /// - Parameter name: Who the client is, for logs and ``waitUntilAcked(_:timeout:)``.
    func serve(
        _ requests: some AsyncSequence<Envoy_Service_Discovery_V3_DeltaDiscoveryRequest, any Error> & Sendable,
        to writer: RPCWriter<DiscoveryPush>, name: String
    ) async throws {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let client = try state.withLock { state -> DiscoveryClientEntry in
            guard state.clients.count < Self.maximumClients else {
                throw RPCError(code: .resourceExhausted, message: "too many clients")
            }
            state.nextClient += 1
            let client = DiscoveryClientEntry(id: state.nextClient, name: name, wake: wake)
            state.clients[client.id] = client
            return client
        }
        logger.info("discovery client connected", metadata: ["client": "\(name)", "stream": "\(client.id)"])
        defer {
            state.withLock { $0.clients[client.id] = nil }
            settle(client)
            acknowledgements.gone(client)
            logger.info("discovery client gone", metadata: ["client": "\(name)", "stream": "\(client.id)"])
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { wake.finish() }
                for try await request in requests { try self.receive(request, from: client) }
            }
            group.addTask {
                for await _ in signals {
                    while let push = try self.next(for: client) { try await self.send(push, to: client, writer) }
                }
            }
            // Whichever ends first, in order or with an error, ends the stream.
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private func send(
        _ push: DiscoveryPush, to client: DiscoveryClientEntry, _ writer: RPCWriter<DiscoveryPush>
    ) async throws {
        if let ticket = try await budget.admit(push.body.bytes.count) {
            if let old = client.exchange(ticket: ticket) { budget.release(old) }
        }
        try await writer.write(push)
    }

    /// What was on its way to a client has come there, or never will.
    private func settle(_ client: DiscoveryClientEntry) {
        if let ticket = client.exchange(ticket: nil) { budget.release(ticket) }
    }

    private func receive(
        _ request: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest, from client: DiscoveryClientEntry
    ) throws {
        let acknowledgement: DiscoverySession.Acknowledgement?
        do {
            acknowledgement = try client.session.withLock { try $0.receive(request) }
        } catch let violation as DiscoverySession.Violation {
            throw refusal(violation, of: client)
        }
        client.wake.yield()
        guard let acknowledgement else { return }
        settle(client)
        total.withLock { total in
            total.acknowledgements += 1
            if acknowledgement.refusal != nil { total.refusals += 1 }
        }
        acknowledgements.heard(client)
        if let refusal = acknowledgement.refusal {
            logger.warning(
                "discovery client refused resources",
                metadata: [
                    "client": "\(client.name)", "type": "\(request.typeURL)", "reason": "\(refusal.prefix(1000))",
                ])
        }
    }

    private func next(for client: DiscoveryClientEntry) throws -> DiscoveryPush? {
        let tables = state.withLock { $0.tables }
        // A client that is not concerned by a change is up to date without a word.
        var advanced = false
        defer { if advanced { acknowledgements.heard(client) } }
        do {
            let turn = try client.session.withLock { session in
                let types = [tables.policies.typeURL, tables.workloads.typeURL]
                let before = types.map(session.acknowledged)
                let turn = try session.next(tables, now: ContinuousClock().now)
                advanced = types.map(session.acknowledged) != before
                return turn
            }
            // The stream may be gone by then, and with it all that is known of its client.
            for reason in turn.begins { holds[reason]?.add { [wake = client.wake] in wake.yield() } }
            if let push = turn.push {
                total.withLock { total in
                    total.responses += 1
                    total.resourcesSent += UInt64(push.body.resources)
                }
            }
            return turn.push
        } catch let violation as DiscoverySession.Violation {
            throw refusal(violation, of: client)
        }
    }

    private func refusal(_ violation: DiscoverySession.Violation, of client: DiscoveryClientEntry) -> RPCError {
        guard violation != .tooFarBehind else {
            logger.warning("discovery client is too far behind", metadata: ["client": "\(client.name)"])
            return RPCError(code: .aborted, message: "too far behind: connect again and say what you have")
        }
        logger.warning(
            "discovery client asks for too much", metadata: ["client": "\(client.name)", "reason": "\(violation)"])
        return RPCError(code: .resourceExhausted, message: "\(violation)")
    }
}
