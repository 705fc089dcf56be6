import Foundation
import IstioAPI
import Mesh
import SwiftProtobuf
import Testing

@testable import Discovery

/// `Tests/Peers/istio/istio.golden`, written by `golden.py` beside it from the field tables: it knows nothing of this
/// codec.
@Suite("Bytes of the foreign peers")
struct GoldenTests {
    let golden: [String: [UInt8]]

    init() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Peers/istio/istio.golden")
        golden = Dictionary(
            uniqueKeysWithValues: try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
                let parts = line.split(separator: " ")
                let digits = Array(parts[1])
                let bytes = stride(from: 0, to: digits.count, by: 2).compactMap {
                    UInt8(String(digits[$0...($0 + 1)]), radix: 16)
                }
                return (String(parts[0]), bytes)
            })
        #expect(golden.count == 11)
    }

    private static let node = DiscoveryNode(
        nodeName: "n1", podName: "ztunnel-x7", podNamespace: "istio-system", instanceAddress: "10.1.2.3")

    @Test(
        "resources are written in the same bytes",
        arguments: [
            ("workload", MeshResource.workload(Samples.fullWorkload)), ("service", .service(Samples.fullService)),
            ("policy", .policy(Samples.fullPolicy)),
        ])
    func resources(name: String, resource: MeshResource) throws {
        #expect(try Array(resource.encoded()) == golden[name])
    }

    @Test("responses are read for what they say")
    func responses() throws {
        let decoder = ResourceDecoder()
        let delta = try decoder.response(try #require(golden["response"]))
        #expect(delta.nonce == "n" && delta.typeURL == TypeURL.address && delta.removed == ["gone"])
        #expect(delta.resources.map(\.name) == [Samples.fullWorkload.uid, Samples.fullService.key.description])
        #expect(delta.resources.map(\.version) == ["5", "6"])
        let store = MeshStore()
        for resource in delta.resources { store.apply([try resource.update.get()]) }
        let policies = try decoder.response(try #require(golden["policies"]))
        for resource in policies.resources { store.apply([try resource.update.get()]) }
        let state = store.snapshot()
        #expect(state.workload(uid: Samples.fullWorkload.uid) == Samples.fullWorkload)
        #expect(state.service(Samples.fullService.key) == Samples.fullService)
        #expect(state.policy("shop/p") == Samples.fullPolicy)
    }

    /// Maps have no order on the wire.
    private func isSame(_ request: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest, as name: String) throws -> Bool {
        try request == Envoy_Service_Discovery_V3_DeltaDiscoveryRequest(serializedBytes: #require(golden[name]))
    }

    @Test("requests say the same")
    func requests() throws {
        var exchange = DiscoveryExchange()
        var response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()
        response.typeURL = TypeURL.address
        response.nonce = "n"
        var resource = Envoy_Service_Discovery_V3_Resource()
        resource.name = "a"
        resource.version = "1"
        resource.resource.typeURL = TypeURL.address
        resource.resource.value = Data(try #require(golden["workload"]))
        response.resources = [resource]
        let decoder = ResourceDecoder()
        #expect(try isSame(exchange.receive(decoder.response(response.serializedBytes())).reply, as: "ack"))
        let opening = exchange.opening(Self.node).first { $0.typeURL == TypeURL.address }
        #expect(try isSame(#require(opening), as: "opening"))

        response.resources[0].resource.value = Data([0xff])
        var refusal = exchange.receive(try decoder.response(response.serializedBytes())).reply
        #expect(refusal.errorDetail.message.hasPrefix("a: "))
        refusal.errorDetail.message = "a: wrong"
        #expect(try isSame(refusal, as: "nack"))

        var demanding = DiscoveryExchange(onDemand: true)
        _ = demanding.demand(.address(NetworkAddress(network: "net1", address: .init(10, 0, 0, 1)))) { _ in false }
        var asking = try #require(demanding.opening(Self.node).first { $0.typeURL == TypeURL.address })
        asking.clearNode()
        #expect(try isSame(asking, as: "on-demand"))
    }

    @Test("a response that is put together of parts is the same message")
    func parts() throws {
        var table = ResourceTable(typeURL: TypeURL.authorization)
        table.apply(try table.difference(to: [.policy(Samples.fullPolicy)]))
        var session = DiscoverySession()
        var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
        request.typeURL = TypeURL.authorization
        _ = try session.receive(request)
        let bytes: [UInt8] = try #require(try session.next(table)).bytes()
        var found = try Envoy_Service_Discovery_V3_DeltaDiscoveryResponse(serializedBytes: bytes)
        var wanted = try Envoy_Service_Discovery_V3_DeltaDiscoveryResponse(
            serializedBytes: #require(golden["policies"]))
        for index in wanted.resources.indices { wanted.resources[index].version = found.resources[index].version }
        (found.nonce, found.systemVersionInfo) = (wanted.nonce, wanted.systemVersionInfo)
        #expect(found == wanted)
    }

    @Test("the certificate service's messages")
    func certificates() throws {
        var request = Istio_V1_Auth_IstioCertificateRequest()
        request.csr = "PEM"
        request.validityDuration = 86400
        request.metadata.fields = ["ImpersonatedIdentity": .init(stringValue: "spiffe://cluster.local/ns/shop/sa/web")]
        #expect(try request.serializedBytes() == golden["certificate-request"])
        let response = try Istio_V1_Auth_IstioCertificateResponse(
            serializedBytes: #require(golden["certificate-response"]))
        #expect(response.certChain == ["leaf", "issuer", "root"])
    }
}
