import DequeModule
import GRPCCore
import GRPCNIOTransportHTTP2
import GRPCProtobuf
import IstioAPI
import LinuxNetwork
public import Logging
public import Mesh
import Synchronization

/// Keeps a ``MeshStore`` up to date from a control plane, over delta xDS, through every kind of interruption.
///
/// What it has learnt stays in force while there is no connection.
public final class DiscoveryClient: Sendable {
    /// Why connections ended, for `istio_xds_connection_terminations_total`.
    public enum Termination: String, Sendable, Hashable, CaseIterable {
        case connectionError = "ConnectionError"
        case error = "Error"
        case reconnect = "Reconnect"
        case complete = "Complete"
    }

    /// What is worth counting.
    public enum Event: Sendable {
        case connecting
        case connected
        case received(typeURL: String, resources: Int, removed: Int, bytes: Int)
        case refused(typeURL: String, count: Int)
        case terminated(Termination)
    }

    struct State {
        var exchange: DiscoveryExchange
        /// Where requests go, while there is a stream.
        var requests: AsyncStream<Envoy_Service_Discovery_V3_DeltaDiscoveryRequest>.Continuation?
        /// Who waits for a name.
        var waiters: [MeshName: [@Sendable () -> Void]] = [:]
        var isReady = false
        var isConnected = false
        var lastError: DiscoveryError?
    }

    let settings: DiscoverySettings
    private let connector: DiscoveryConnector
    let store: MeshStore
    private let decoder = ResourceDecoder()
    private let logger: Logger
    private let onEvent: @Sendable (Event) -> Void
    let state: Mutex<State>
    private let becameReady = ChangeSignal()
    /// Says that a change has replaced something in the store.
    private let replaced: AsyncStream<Void>.Continuation
    private let replacements: AsyncStream<Void>
    /// Says that a change was large.
    private let enlarged: AsyncStream<Void>.Continuation
    private let enlargements: AsyncStream<Void>

    /// - Throws: ``DiscoveryError`` `configuration` for an address that is none.
    public init(
        _ settings: DiscoverySettings, store: MeshStore, logger: Logger,
        onEvent: @escaping @Sendable (Event) -> Void = { _ in }
    ) throws(DiscoveryError) {
        self.settings = settings
        state = Mutex(State(exchange: DiscoveryExchange(onDemand: settings.isOnDemand)))
        connector = try DiscoveryConnector(settings)
        self.store = store
        self.logger = logger
        self.onEvent = onEvent
        (replacements, replaced) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        (enlargements, enlarged) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Every type has been received and taken once, on this or an earlier connection.
    public var isReady: Bool { state.withLock { $0.isReady } }
    public var isConnected: Bool { state.withLock { $0.isConnected } }
    /// Why the last connection failed or ended; `nil` while one works.
    public var lastError: DiscoveryError? { state.withLock { $0.lastError } }

    /// Returns when ``isReady``; false when that has not come about in time.
    public func waitUntilReady(timeout: Duration) async -> Bool {
        await becameReady.wait(timeout: timeout) { self.isReady }
    }

    /// Runs until the task is cancelled.
    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.reclaim() }
            group.addTask { await self.giveBack() }
            await self.connect()
            group.cancelAll()
        }
    }

    /// Frees what changes have replaced as soon as no reader holds it, so that none of them has to.
    private func reclaim() async {
        for await _ in replacements {
            while store.reclaim() > 0, !Task.isCancelled {
                // Cancelled when the client ends; what is held is freed with the store then.
                try? await ContinuousClock().sleep(for: .seconds(1))
            }
        }
    }

    /// Updates of one change from which on it leaves much behind.
    private static let largeChange = 1000

    /// Gives back what large changes have left free between what is in use: half as much again as the mesh takes.
    private func giveBack() async {
        for await _ in enlargements {
            // One comes after the other; and a cancelled sleep ends with the stream.
            try? await ContinuousClock().sleep(for: .milliseconds(500))
            Heap.giveBack()
        }
    }

    /// Connections that may be on their way out at a time.
    private static let mostEnding = 8

    private func connect() async {
        var backoff = Backoff(shortest: settings.minimumBackoff, longest: settings.maximumBackoff)
        // Connections that are over and not yet closed: a server that does not answer TLS's farewell takes seconds for
        // it, and nobody is to wait so long for the next one.
        var ending: Deque<Task<Void, any Error>> = []
        while !Task.isCancelled {
            if ending.count > Self.mostEnding, let oldest = ending.popFirst() { _ = await oldest.result }
            onEvent(.connecting)
            let (termination, error, worked) = await connectOnce(&ending)
            state.withLock { state in
                state.isConnected = false
                state.lastError = error
            }
            if Task.isCancelled { return }
            onEvent(.terminated(termination))
            if worked { backoff.reset() }
            let pause = backoff.next()
            if termination == .reconnect || termination == .complete {
                logger.debug("discovery stream ended", metadata: ["reason": "\(error)", "retry_in": "\(pause)"])
            } else {
                logger.warning(
                    "no connection to the control plane",
                    metadata: [
                        "address": "\(settings.address)", "reason": "\(error)", "retry_in": "\(pause)",
                    ])
            }
            do {
                try await ContinuousClock().sleep(for: pause)
            } catch {
                return
            }
        }
    }

    /// One connection from its beginning to the end of its stream.
    private func connectOnce(
        _ ending: inout Deque<Task<Void, any Error>>
    ) async -> (Termination, DiscoveryError, worked: Bool) {
        do {
            let client = try connector.client()
            let metadata = try connector.metadata()
            let connections = Task { try await client.runConnections() }
            ending.append(connections)
            defer {
                client.beginGracefulShutdown()
                connections.cancel()
            }
            try await stream(client, metadata)
            return (
                .complete, DiscoveryError(.interrupted, "the server ended the stream"), isConnected
            )
        } catch let error as DiscoveryError {
            return (.connectionError, error, isConnected)
        } catch let error as RPCError {
            return classify(error, isConnected)
        } catch {
            let error = DiscoveryError(
                .unreachable, "the connection to \(settings.address) failed", cause: "\(error)")
            return (.connectionError, error, isConnected)
        }
    }

    private func classify(_ error: RPCError, _ worked: Bool) -> (Termination, DiscoveryError, worked: Bool) {
        var cause = error.message
        if let inner = error.cause { cause += " (\(inner))" }
        switch error.code {
        case .unauthenticated, .permissionDenied:
            let error = DiscoveryError(
                .refused, "\(settings.address) refused us", cause: cause,
                hint: "check the token; the server's log says why")
            return (.error, error, worked)
        case .unknown, .cancelled, .deadlineExceeded, .unavailable:
            guard worked else {
                let error = DiscoveryError(
                    .unreachable, "\(settings.address) cannot be reached", cause: cause,
                    hint: "check the address, and the root certificates against the server's")
                return (.connectionError, error, worked)
            }
            return (
                .reconnect, DiscoveryError(.interrupted, "the stream was interrupted", cause: cause), worked
            )
        default:
            return (.error, DiscoveryError(.refused, "the stream failed: \(error.code)", cause: cause), worked)
        }
    }

    private func stream(
        _ client: GRPCClient<HTTP2ClientTransport.Posix>, _ metadata: Metadata
    ) async throws {
        // One reply a response, so as bounded as the responses.
        let (requests, send) = AsyncStream.makeStream(of: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest.self)
        // Together, so that a name is asked for with these or after them.
        state.withLock { state in
            for request in state.exchange.opening(settings.node) { send.yield(request) }
            state.requests = send
        }
        defer {
            state.withLock { $0.requests = nil }
            send.finish()
        }
        var options = CallOptions.defaults
        options.maxResponseMessageBytes = settings.maximumMessageBytes
        // The transport holds what comes in against the limit of requests, which is 4 MiB where none is set.
        options.maxRequestMessageBytes = settings.maximumMessageBytes
        // A connection that does not come about is an error here, with a back-off of ours.
        options.waitForReady = false
        try await client.bidirectionalStreaming(
            request: StreamingClientRequest(metadata: metadata) { writer in
                for await request in requests { try await writer.write(request) }
            },
            descriptor: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Method.DeltaAggregatedResources
                .descriptor,
            serializer: ProtobufSerializer<Envoy_Service_Discovery_V3_DeltaDiscoveryRequest>(),
            deserializer: DeltaDeserializer(decoder: decoder), options: options
        ) { response in
            let queue = ResponseQueue()
            async let applied: Void = self.apply(queue) { send.yield($0) }
            do {
                for try await message in response.messages { await queue.add(self.receive(message)) }
            } catch {
                queue.finish()
                await applied
                throw error
            }
            queue.finish()
            await applied
            send.finish()
        }
    }

    /// Applies what comes until there is no more, and answers it.
    private func apply(
        _ queue: ResponseQueue, _ send: (Envoy_Service_Discovery_V3_DeltaDiscoveryRequest) -> Void
    ) async {
        while case let responses = await queue.next(), !responses.isEmpty {
            store.apply(messages: responses.map(\.outcome.updates))
            replaced.yield()
            if responses.reduce(0, { $0 + $1.outcome.updates.count }) >= Self.largeChange { enlarged.yield() }
            // Only now: whoever is told that the client is ready finds the state in the store.
            if responses.contains(where: \.outcome.completes) { state.withLock { $0.isReady = true } }
            becameReady.notify()
            for response in responses { settle(response) }
            for response in responses { send(response.outcome.reply) }
        }
    }

    /// Takes a response in, but for applying its updates.
    private func receive(_ response: ResourceDelta) -> ReceivedResponse {
        let (outcome, isFirst) = state.withLock { state in
            let isFirst = !state.isConnected
            state.isConnected = true
            state.lastError = nil
            return (state.exchange.receive(response), isFirst)
        }
        if isFirst { onEvent(.connected) }
        onEvent(
            .received(
                typeURL: response.typeURL, resources: response.resourceCount, removed: response.removed.count,
                bytes: response.resourceBytes))
        if outcome.unknownType {
            logger.error("resources of an unknown type", metadata: ["type": "\(response.typeURL.prefix(200))"])
        }
        if !outcome.refusals.isEmpty {
            onEvent(.refused(typeURL: response.typeURL, count: outcome.refusals.count))
            logger.error(
                "resources refused",
                metadata: [
                    "type": "\(response.typeURL)", "count": "\(outcome.refusals.count)",
                    "reasons": "\(outcome.refusals.prefix(5).joined(separator: "; ").prefix(1000))",
                ])
        }
        return ReceivedResponse(
            outcome: outcome, kind: response.kind, removed: response.removed, bytes: response.resourceBytes)
    }
}

/// Makes values of a response right from its bytes, on the stream's own task and outside of every lock of the client.
private struct DeltaDeserializer: MessageDeserializer {
    let decoder: ResourceDecoder

    func deserialize<Bytes: GRPCContiguousBytes>(_ serializedMessageBytes: Bytes) throws -> ResourceDelta {
        do {
            return try decoder.response(serializedMessageBytes.withUnsafeBytes { Array($0) })
        } catch {
            throw RPCError(code: .invalidArgument, message: "a response that is none", cause: error)
        }
    }
}
