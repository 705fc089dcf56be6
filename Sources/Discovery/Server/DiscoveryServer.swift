import GRPCCore
import IstioAPI
public import Logging
public import Mesh
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

    private struct Client {
        let name: String
        var session: DiscoverySession
        let wake: AsyncStream<Void>.Continuation
    }

    private struct State {
        // Policies first: a workload must not be known before the policy it refers to.
        var tables = [ResourceTable(typeURL: TypeURL.authorization), ResourceTable(typeURL: TypeURL.address)]
        var clients: [UInt64: Client] = [:]
        var nextClient: UInt64 = 0
        var counts = DiscoveryServerCounts()
    }

    private let state = Mutex(State())
    private let acknowledgements = ChangeSignal()
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
        try publish { table in try table.difference(to: resources.filter { $0.typeURL == table.typeURL }) }
    }

    /// Changes some of what is published and leaves the rest as it is.
    ///
    /// - Parameter removed: Uids of workloads that are gone; unknown ones count for nothing.
    /// - Returns: The mark of this state.
    /// - Throws: When a resource cannot be encoded; then nothing is changed.
    @discardableResult
    public func publish(workloads: [Workload], removed: [String]) throws -> Mark {
        try publish { table in
            guard table.typeURL == TypeURL.address else { return ResourceTable.Difference() }
            return try table.difference(setting: workloads.map { .workload($0) }, removing: removed)
        }
    }

    private func publish(_ difference: (ResourceTable) throws -> ResourceTable.Difference) throws -> Mark {
        try state.withLock { state in
            let differences = try state.tables.map(difference)
            for (index, difference) in differences.enumerated() { state.tables[index].apply(difference) }
            if !differences.allSatisfy(\.isEmpty) {
                for client in state.clients.values { client.wake.yield() }
            }
            return Mark(generations: Self.generations(state))
        }
    }

    /// The mark of what is published now.
    public var mark: Mark { state.withLock { Mark(generations: Self.generations($0)) } }

    private static func generations(_ state: State) -> [String: UInt64] {
        Dictionary(uniqueKeysWithValues: state.tables.map { ($0.typeURL, $0.generation) })
    }

    /// All that is published, by type and name.
    public var resources: [MeshResource] {
        state.withLock { state in
            state.tables.flatMap { $0.entries.sorted { $0.key < $1.key }.map(\.value.resource) }
        }
    }

    // MARK: Clients

    public var clients: [DiscoveryClientStatus] {
        state.withLock { state in
            state.clients.sorted { $0.key < $1.key }.map { id, client in
                var acknowledged: [String: UInt64] = [:]
                for type in client.session.types { acknowledged[type] = client.session.acknowledged(type) }
                return DiscoveryClientStatus(
                    id: id, name: client.name, nodeID: client.session.nodeID, acknowledged: acknowledged)
            }
        }
    }

    public var counts: DiscoveryServerCounts {
        state.withLock { state in
            var counts = state.counts
            counts.clients = state.clients.count
            return counts
        }
    }

    /// Waits until every client that is connected now has acknowledged what was published up to `mark`, of the types
    /// it asked for. Clients that go away meanwhile are not waited for.
    ///
    /// - Returns: The names of clients that had not when the time was over; empty when all have.
    public func waitUntilAcked(_ mark: Mark, timeout: Duration) async -> [String] {
        let concerned = state.withLock { Set($0.clients.keys) }
        _ = await acknowledgements.wait(timeout: timeout) { self.behind(mark, concerned).isEmpty }
        return behind(mark, concerned)
    }

    private func behind(_ mark: Mark, _ concerned: Set<UInt64>) -> [String] {
        state.withLock { state in
            state.clients.filter { concerned.contains($0.key) }.filter { _, client in
                mark.generations.contains { type, generation in
                    client.session.acknowledged(type).map { $0 < generation } ?? false
                }
            }.map(\.value.name).sorted()
        }
    }

    // MARK: A stream

    /// Serves one stream until the client ends it or the task is cancelled.
    ///
    /// - Parameter name: Who the client is, for logs and ``waitUntilAcked(_:timeout:)``.
    func serve(
        _ requests: some AsyncSequence<Envoy_Service_Discovery_V3_DeltaDiscoveryRequest, any Error> & Sendable,
        to writer: RPCWriter<Envoy_Service_Discovery_V3_DeltaDiscoveryResponse>, name: String
    ) async throws {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let id = try state.withLock { state -> UInt64 in
            guard state.clients.count < Self.maximumClients else {
                throw RPCError(code: .resourceExhausted, message: "too many clients")
            }
            state.nextClient += 1
            state.clients[state.nextClient] = Client(name: name, session: DiscoverySession(), wake: wake)
            return state.nextClient
        }
        logger.info("discovery client connected", metadata: ["client": "\(name)", "stream": "\(id)"])
        defer {
            state.withLock { $0.clients[id] = nil }
            acknowledgements.notify()
            logger.info("discovery client gone", metadata: ["client": "\(name)", "stream": "\(id)"])
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { wake.finish() }
                for try await request in requests { try self.receive(request, from: id, name) }
            }
            group.addTask {
                for await _ in signals {
                    while let response = self.next(for: id) { try await writer.write(response) }
                }
            }
            // Whichever ends first, in order or with an error, ends the stream.
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private func receive(
        _ request: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest, from id: UInt64, _ name: String
    ) throws {
        let acknowledgement: DiscoverySession.Acknowledgement?
        do {
            acknowledgement = try state.withLock { state in
                // In place: a session remembers a lot, and a copy would be one of all.
                let acknowledgement = try state.clients[id]?.session.receive(request) ?? nil
                if let acknowledgement {
                    state.counts.acknowledgements += 1
                    if acknowledgement.refusal != nil { state.counts.refusals += 1 }
                }
                state.clients[id]?.wake.yield()
                return acknowledgement
            }
            acknowledgements.notify()
        } catch let violation as DiscoverySession.Violation {
            logger.warning(
                "discovery client asks for too much",
                metadata: ["client": "\(name)", "reason": "\(violation)"])
            throw RPCError(code: .resourceExhausted, message: "\(violation)")
        }
        if let refusal = acknowledgement?.refusal {
            logger.warning(
                "discovery client refused resources",
                metadata: [
                    "client": "\(name)", "type": "\(request.typeURL)", "reason": "\(refusal.prefix(1000))",
                ])
        }
    }

    private func next(for id: UInt64) -> Envoy_Service_Discovery_V3_DeltaDiscoveryResponse? {
        // A client that is not concerned by a change is up to date without a word.
        var advanced = false
        defer { if advanced { acknowledgements.notify() } }
        return state.withLock { state in
            for table in state.tables {
                let before = state.clients[id]?.session.acknowledged(table.typeURL)
                let response = state.clients[id]?.session.next(table) ?? nil
                if state.clients[id]?.session.acknowledged(table.typeURL) != before { advanced = true }
                if let response {
                    state.counts.responses += 1
                    state.counts.resourcesSent += UInt64(response.resources.count)
                    return response
                }
            }
            let known = state.tables.map(\.typeURL)
            for type in state.clients[id]?.session.types ?? [] where !known.contains(type) {
                if let response = state.clients[id]?.session.nextUnknown(type) ?? nil { return response }
            }
            return nil
        }
    }
}
