import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import GRPCProtobuf
import IstioAPI
import Mesh
import Synchronization

/// Many ztunnels in one process, as a controller sees them: each has its own TLS connection with one stream on it, asks
/// for everything and acknowledges what comes. They look for marks in what they get and keep nothing of it.
///
/// Lines on standard input: `report` says how old the marks were when they came, since the last report.
final class Subscribers: Sendable {
    let address: String
    let root: String
    let token: String
    let count: Int

    /// Those that have connected and are not served yet. All at once, the handshakes of thousands in this one process would
    /// take longer than any of them waits.
    private static let atOnce = 200

    private struct State {
        /// Seconds from the opening of a stream to all of the first state.
        var first: [Double] = []
        var bytes = 0
        var failures: [String] = []
        var latencies: [UInt64] = []
        /// Since the last report.
        var responses = 0
    }

    private let state = Mutex(State())

    init(address: String, root: String, token: String, count: Int) {
        self.address = address
        self.root = root
        self.token = token
        self.count = count
    }

    func run() async throws {
        let begun = ContinuousClock().now
        let roots = try String(contentsOfFile: root, encoding: .utf8)
        let parts = address.split(separator: ":")
        guard parts.count == 2, let port = Int(parts[1]) else { throw BenchError("\(address) is no address") }
        let deadline = begun + .seconds(600)
        var tasks: [Task<Void, Never>] = []
        while true {
            let (done, failures) = state.withLock { ($0.first.count, $0.failures) }
            if done == count { break }
            guard failures.isEmpty else { throw BenchError("\(failures.count) failed: \(failures[0])") }
            guard ContinuousClock().now < deadline else { throw BenchError("only \(done) are served after 600 s") }
            while tasks.count < min(count, done + Self.atOnce) {
                let index = tasks.count
                tasks.append(
                    Task {
                        do {
                            try await subscribe(index, host: String(parts[0]), port: port, roots: roots)
                        } catch {
                            self.state.withLock { $0.failures.append("\(error)") }
                        }
                    })
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        let (first, bytes) = state.withLock { ($0.first.sorted(), $0.bytes) }
        say(
            """
            {"subscribers": \(count), \
            "all_seconds": \((ContinuousClock().now - begun) / .seconds(1)), \
            "first_median_seconds": \(first[first.count / 2]), "first_longest_seconds": \(first[first.count - 1]), \
            "bytes": \(bytes), "process_bytes": \(try ProcessUse.privateDirty())}
            """)
        while let line = readLine(), line == "report" {
            let (latencies, responses, failures) = state.withLock { state in
                defer { (state.latencies, state.responses) = ([], 0) }
                return (state.latencies.sorted(), state.responses, state.failures)
            }
            guard failures.isEmpty else { throw BenchError("\(failures.count) failed: \(failures[0])") }
            guard !latencies.isEmpty else { throw BenchError("no change has come") }
            func part(_ part: Double) -> Double {
                Double(latencies[min(Int(Double(latencies.count) * part), latencies.count - 1)]) / 1e6
            }
            say(
                """
                {"changes": \(latencies.count), "responses": \(responses), "p50_ms": \(part(0.5)), "p90_ms": \(part(0.9)), \
                "p99_ms": \(part(0.99)), "longest_ms": \(part(1)), "cpu_seconds": \(ProcessUse.cpuSeconds)}
                """)
        }
        for task in tasks { task.cancel() }
    }

    private func say(_ line: String) {
        print(line)
        fflush(nil)
    }

    private func subscribe(_ index: Int, host: String, port: Int, roots: String) async throws {
        // A client of its own, and so a connection of its own; the threads are shared.
        let transport = try HTTP2ClientTransport.Posix(
            target: .ipv4(address: host, port: port),
            transportSecurity: .tls { $0.trustRoots = .certificates([.bytes(Array(roots.utf8), format: .pem)]) },
            config: .defaults { config in
                config.http2.authority = "istiod.istio-system.svc"
                config.http2.targetWindowSize = 4 << 20
                config.http2.maxFrameSize = 1 << 20
                config.connection.maxIdleTime = nil
            })
        try await withGRPCClient(transport: transport) { client in
            let (requests, send) = AsyncStream.makeStream(of: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest.self)
            for type in [TypeURL.address, TypeURL.authorization] {
                var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
                request.typeURL = type
                request.node.id = "ztunnel~10.0.0.1~ztunnel-\(index).istio-system~istio-system.svc.cluster.local"
                request.node.metadata.fields["NODE_NAME"] = .init(stringValue: "n\(index)")
                send.yield(request)
            }
            var options = CallOptions.defaults
            options.maxResponseMessageBytes = 200 << 20
            // What the transport really holds responses against.
            options.maxRequestMessageBytes = 200 << 20
            let begun = ContinuousClock().now
            try await client.bidirectionalStreaming(
                request: StreamingClientRequest(
                    metadata: ["authorization": "Bearer \(token)", "clusterid": "Kubernetes"]
                ) { writer in
                    for await request in requests { try await writer.write(request) }
                },
                descriptor: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Method.DeltaAggregatedResources
                    .descriptor,
                serializer: ProtobufSerializer<Envoy_Service_Discovery_V3_DeltaDiscoveryRequest>(),
                deserializer: GlanceDeserializer(), options: options
            ) { response in
                var isFirst = true
                for try await glance in response.messages {
                    let now = ProcessUse.monotonicNanoseconds
                    var acknowledgement = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
                    acknowledgement.typeURL = glance.typeURL
                    acknowledgement.responseNonce = glance.nonce
                    send.yield(acknowledgement)
                    self.state.withLock { state in
                        state.bytes += glance.bytes
                        state.responses += 1
                        guard glance.typeURL == TypeURL.address else { return }
                        guard isFirst else {
                            for mark in glance.marks { state.latencies.append(now - min(mark, now)) }
                            return
                        }
                        // Changes of before are as old as they are.
                        isFirst = false
                        state.first.append((ContinuousClock().now - begun) / .seconds(1))
                    }
                }
                send.finish()
            }
        }
        if !Task.isCancelled { throw BenchError("the stream of \(index) has ended") }
    }
}

/// As much of a response as it takes to answer it: type, nonce, and the marks in its resources.
private struct Glance: Sendable {
    var typeURL = ""
    var nonce = ""
    var bytes = 0
    var marks: [UInt64] = []
}

private struct GlanceDeserializer: MessageDeserializer {
    func deserialize<Bytes: GRPCContiguousBytes>(_ message: Bytes) throws -> Glance {
        try message.withUnsafeBytes { bytes in
            var glance = Glance()
            glance.bytes = bytes.count
            var at = 0
            func number() throws -> Int {
                var (value, shift) = (0, 0)
                while at < bytes.count {
                    let byte = bytes[at]
                    at += 1
                    value |= Int(byte & 0x7f) << shift
                    if byte < 0x80 { return value }
                    shift += 7
                }
                throw RPCError(code: .dataLoss, message: "a response is cut short")
            }
            while at < bytes.count {
                let tag = try number()
                let length = try number()
                guard tag & 7 == 2, at + length <= bytes.count else {
                    throw RPCError(code: .dataLoss, message: "a response that is none")
                }
                let field = UnsafeRawBufferPointer(rebasing: bytes[at..<at + length])
                at += length
                switch tag >> 3 {
                case 2: if let mark = Self.mark(field) { glance.marks.append(mark) }
                case 4: glance.typeURL = String(decoding: field, as: UTF8.self)
                case 5: glance.nonce = String(decoding: field, as: UTF8.self)
                default: break
                }
            }
            return glance
        }
    }

    /// `@NUMBER@`; an @ alone may be any length or byte of another field.
    private static func mark(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
        var rest = bytes[...]
        while let start = rest.firstIndex(of: UInt8(ascii: "@")) {
            rest = rest[(start + 1)...]
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            guard (5...19).contains(digits.count), digits.endIndex < rest.endIndex,
                rest[digits.endIndex] == UInt8(ascii: "@")
            else { continue }
            return digits.reduce(0) { $0 * 10 + UInt64($1 - UInt8(ascii: "0")) }
        }
        return nil
    }
}
