import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import GRPCProtobuf
import Identity
import IstioAPI
import Mesh
import Testing

@testable import Discovery

/// Over a real stream, with a client that keeps back its answers.
@Suite("Policies and workloads on one stream", .timeLimit(.minutes(2)))
struct PolicyOrderStreamTests {
    typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    @Test("a policy that is not acknowledged keeps its workloads back, and workloads that are not keep a policy")
    func keptBack() async throws {
        let folder = NSTemporaryDirectory() + "apus-discovery-\(UUID().uuidString)"
        let authority = try EmbeddedCA(directory: folder, trustDomain: "cluster.local", now: Date())
        let plane = try await TestControlPlane(authority)
        func publish(_ policies: [String], listedBy workload: String) throws {
            try plane.discovery.publish(
                policies.map { Samples.policy($0, scope: .workloadSelector) }
                    + [Samples.workload(workload, policies: policies)])
        }
        try publish(["p"], listedBy: "a")
        try await stream(plane.port, authority.rootPEM) { talk in
            talk.ask(TypeURL.authorization)
            talk.ask(TypeURL.address)
            var policies = try await talk.next(TypeURL.authorization)
            #expect(policies.resources.map(\.name) == ["shop/p"])
            // What nobody publishes is answered when there is nothing else to send: so workloads are not sent now.
            try await talk.expectNothing()
            talk.answer(policies)
            var workloads = try await talk.next(TypeURL.address)
            #expect(workloads.resources.count == 1)
            talk.answer(workloads)

            try publish(["q"], listedBy: "a")
            policies = try await talk.next(TypeURL.authorization)
            #expect(policies.resources.map(\.name) == ["shop/q"] && policies.removedResources.isEmpty)
            try await talk.expectNothing()
            // A refusal is an answer.
            talk.answer(policies, refusal: "cannot")
            workloads = try await talk.next(TypeURL.address)
            #expect(workloads.resources.count == 1)
            try await talk.expectNothing()
            talk.answer(workloads)
            policies = try await talk.next(TypeURL.authorization)
            #expect(policies.resources.isEmpty && policies.removedResources == ["shop/p"])
            talk.answer(policies)
            #expect(await plane.discovery.waitUntilAcked(plane.discovery.mark, timeout: .seconds(30)) == [])
        }
        await plane.stop()
        try FileManager.default.removeItem(atPath: folder)
    }

    @Test("who answers nothing has all of it all the same, once the patience is over")
    func silent() async throws {
        let folder = NSTemporaryDirectory() + "apus-discovery-\(UUID().uuidString)"
        let authority = try EmbeddedCA(directory: folder, trustDomain: "cluster.local", now: Date())
        let plane = try await TestControlPlane(authority)
        try plane.discovery.publish([
            Samples.policy("p", scope: .workloadSelector), Samples.workload("a", policies: ["p"]),
        ])
        try await stream(plane.port, authority.rootPEM) { talk in
            talk.ask(TypeURL.authorization)
            talk.ask(TypeURL.address)
            let begun = ContinuousClock().now
            _ = try await talk.next(TypeURL.authorization)
            let workloads = try await talk.next(TypeURL.address)
            #expect(workloads.resources.count == 1)
            #expect(ContinuousClock().now - begun >= PushHold.Reason.answer.patience)
        }
        await plane.stop()
        try FileManager.default.removeItem(atPath: folder)
    }

    /// One stream as a client has it that does nothing by itself.
    private final class Talk {
        private let requests: AsyncStream<Request>.Continuation
        private var responses: AsyncThrowingStream<Response, any Error>.AsyncIterator
        private var asked = 0

        init(
            _ requests: AsyncStream<Request>.Continuation, _ responses: AsyncThrowingStream<Response, any Error>
        ) {
            self.requests = requests
            self.responses = responses.makeAsyncIterator()
        }

        func ask(_ type: String) {
            var request = Request()
            request.typeURL = type
            requests.yield(request)
        }

        func answer(_ response: Response, refusal: String? = nil) {
            var request = Request()
            request.typeURL = response.typeURL
            request.responseNonce = response.nonce
            if let refusal { request.errorDetail.message = refusal }
            requests.yield(request)
        }

        /// The next response, which has to be of this type.
        func next(_ type: String) async throws -> Response {
            let response = try #require(try await responses.next(isolation: nil))
            try #require(response.typeURL == type)
            return response
        }

        /// The server has nothing else to send: it answers what comes last.
        func expectNothing() async throws {
            asked += 1
            let type = "type.googleapis.com/nobody.publishes.\(asked)"
            ask(type)
            answer(try await next(type))
        }
    }

    private func stream(_ port: Int, _ roots: String, _ body: @escaping (Talk) async throws -> Void) async throws {
        let transport = try HTTP2ClientTransport.Posix(
            target: .dns(host: "localhost", port: port),
            transportSecurity: .tls { $0.trustRoots = .certificates([.bytes(Array(roots.utf8), format: .pem)]) })
        let (requests, send) = AsyncStream.makeStream(of: Request.self)
        let (responses, received) = AsyncThrowingStream.makeStream(of: Response.self)
        try await withGRPCClient(transport: transport) { client in
            let call = Task {
                do {
                    try await client.bidirectionalStreaming(
                        request: StreamingClientRequest(metadata: ["authorization": "Bearer good"]) { writer in
                            for await request in requests { try await writer.write(request) }
                        },
                        descriptor: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Method
                            .DeltaAggregatedResources.descriptor,
                        serializer: ProtobufSerializer<Request>(), deserializer: ProtobufDeserializer<Response>(),
                        options: .defaults
                    ) { response in
                        for try await message in response.messages { received.yield(message) }
                    }
                    received.finish()
                } catch {
                    received.finish(throwing: error)
                }
            }
            defer { call.cancel() }
            try await body(Talk(send, responses))
            send.finish()
        }
    }
}
