import Addressing
import Foundation
import IstioAPI
import Mesh
import SwiftProtobuf
import Testing

@testable import Discovery

@Suite("What a client makes of responses")
struct DiscoveryExchangeTests {
    typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    var exchange = DiscoveryExchange()

    private func response(_ resources: [MeshResource], type: String, nonce: String = "n") throws -> Response {
        var response = Response()
        response.typeURL = type
        response.nonce = nonce
        for entry in resources {
            var resource = Envoy_Service_Discovery_V3_Resource()
            resource.name = entry.name
            resource.version = "v-\(entry.name)"
            resource.resource.typeURL = type
            resource.resource.value = try entry.encoded()
            response.resources.append(resource)
        }
        return response
    }

    /// As the client reads it: from the bytes.
    private mutating func receive(_ response: Response) throws -> DiscoveryExchange.Outcome {
        exchange.receive(try ResourceDecoder().response(response.serializedBytes()))
    }

    @Test("the first requests ask for all of both types, policies first, and say who asks")
    func opening() {
        let requests = exchange.opening(
            DiscoveryNode(nodeName: "n1", podName: "z", podNamespace: "istio-system", metadata: ["A": "b"]))
        #expect(requests.map(\.typeURL) == [TypeURL.authorization, TypeURL.address])
        #expect(requests.allSatisfy { $0.resourceNamesSubscribe.isEmpty && $0.initialResourceVersions.isEmpty })
        #expect(requests[0].node.id == "ztunnel~1.1.1.1~z.istio-system~istio-system.svc.cluster.local")
        #expect(requests[0].node.metadata.fields["NODE_NAME"]?.stringValue == "n1")
        #expect(requests[0].node.metadata.fields["A"]?.stringValue == "b")
    }

    /// What istiod keys its pushes and its proxies' view by. Field 1 is the id, 3 the metadata: a Struct, whose field 1 is
    /// a map of string to Value, of which 3 is a string.
    @Test("the node says what Istio's ztunnel says, in the bytes that it would")
    func node() throws {
        let node = DiscoveryNode(
            nodeName: "node-1", podName: "ztunnel-abc", podNamespace: "istio-system", instanceAddress: "10.1.2.3",
            metadata: ["CLUSTER_ID": "c1"])
        func delimited(_ field: UInt8, _ body: [UInt8]) -> [UInt8] { [field << 3 | 2, UInt8(body.count)] + body }
        func entry(_ key: String, _ value: String) -> [UInt8] {
            delimited(1, delimited(1, Array(key.utf8)) + delimited(2, delimited(3, Array(value.utf8))))
        }
        let id = "ztunnel~10.1.2.3~ztunnel-abc.istio-system~istio-system.svc.cluster.local"
        let entries = [
            entry("CLUSTER_ID", "c1"), entry("INSTANCE_IPS", "10.1.2.3"), entry("NAME", "ztunnel-abc"),
            entry("NAMESPACE", "istio-system"), entry("NODE_NAME", "node-1"),
        ]
        let expected = delimited(1, Array(id.utf8)) + delimited(3, entries.flatMap { $0 })
        var options = BinaryEncodingOptions()
        options.useDeterministicOrdering = true
        let bytes: [UInt8] = try node.wire.serializedBytes(options: options)
        #expect(bytes == expected)
    }

    @Test("ready when both types were answered and taken; what is held is told after a reconnect")
    mutating func ready() throws {
        let first = try receive(response([Samples.workload("a")], type: TypeURL.address))
        #expect(first.refusals.isEmpty)
        #expect(first.reply.responseNonce == "n")
        #expect(!first.reply.hasErrorDetail)
        #expect(!exchange.isReady)
        _ = try receive(response([Samples.policy("p")], type: TypeURL.authorization))
        #expect(exchange.isReady)
        var removal = try response([], type: TypeURL.authorization)
        removal.removedResources = ["shop/p"]
        guard case .removePolicy("shop/p")? = try receive(removal).updates.first else {
            Issue.record("no removal")
            return
        }
        let requests = exchange.opening(DiscoveryNode(nodeName: "n"))
        #expect(requests[0].initialResourceVersions == [:])
        #expect(requests[1].initialResourceVersions == ["Kubernetes//Pod/shop/a": "v-Kubernetes//Pod/shop/a"])
    }

    @Test("11. of a response with wrong resources the right ones count; the rest is refused by name and not held")
    mutating func refusals() throws {
        var mixed = try response(
            [Samples.workload("a"), Samples.workload("b"), Samples.workload("c")], type: TypeURL.address)
        mixed.resources[0].resource.value = Data([0xff])
        mixed.resources[2].resource.value = try Istio_Workload_Address().serializedData()
        let outcome = try receive(mixed)
        #expect(outcome.updates.count == 1)
        #expect(outcome.reply.responseNonce == "n")
        #expect(outcome.reply.errorDetail.message.contains("Kubernetes//Pod/shop/a: "))
        #expect(outcome.reply.errorDetail.message.contains("; Kubernetes//Pod/shop/c: type: is neither"))
        _ = try receive(response([], type: TypeURL.authorization))
        #expect(!exchange.isReady)
        #expect(
            Set(exchange.opening(DiscoveryNode(nodeName: "n"))[1].initialResourceVersions.keys) == [
                "Kubernetes//Pod/shop/b"
            ])
    }

    @Test("11. what is refused keeps its earlier version, a refusal does not make ready")
    mutating func refusedKeepsEarlierVersion() throws {
        _ = try receive(response([Samples.workload("a")], type: TypeURL.address))
        var second = try response([Samples.workload("a"), Samples.workload("b")], type: TypeURL.address)
        second.resources[0].version = "v2"
        second.resources[0].resource.value = Data([0xff])
        second.removedResources = ["Kubernetes//Pod/shop/b"]
        let outcome = try receive(second)
        // The removal goes first, so the resource of the same name in the same message stays.
        #expect(outcome.updates.count == 2)
        let held = exchange.opening(DiscoveryNode(nodeName: "n"))[1].initialResourceVersions
        #expect(
            held == [
                "Kubernetes//Pod/shop/a": "v-Kubernetes//Pod/shop/a",
                "Kubernetes//Pod/shop/b": "v-Kubernetes//Pod/shop/b",
            ])
        var fresh = DiscoveryExchange()
        let policies = try response([], type: TypeURL.authorization)
        _ = fresh.receive(try ResourceDecoder().response(policies.serializedBytes()))
        _ = fresh.receive(try ResourceDecoder().response(second.serializedBytes()))
        #expect(!fresh.isReady)
    }

    @Test("names asked for one by one are bounded: the oldest that stands for nothing is given up first")
    func demandIsBounded() throws {
        var exchange = DiscoveryExchange(onDemand: true)
        func name(_ index: Int) -> MeshName {
            .address(NetworkAddress(address: IPAddress(v4: UInt32(index))))
        }
        var known: Set<MeshName> = []
        func ask(_ name: MeshName) -> DiscoveryExchange.Demand { exchange.demand(name) { known.contains($0) } }
        for index in 0..<DiscoveryExchange.mostNames {
            guard case .request = ask(name(index)) else { throw Unasked() }
        }
        guard case .pending = ask(name(7)) else { throw Unasked() }
        guard case .refused = ask(name(-1 & 0xffff_ffff)) else { throw Unasked() }
        let settled = exchange.settle(removed: [name(4).description]) { $0 == name(6) }
        #expect(Set(settled) == [name(4), name(6)])
        #expect(exchange.settle(removed: [name(5).description]) { _ in false } == [name(5)])
        // Something has come to be there since, and changes of it must be heard of.
        known = [name(4), name(6)]
        guard case .answered = ask(name(5)) else { throw Unasked() }
        guard case .request(let request) = ask(name(1 << 20)) else { throw Unasked() }
        #expect(request.resourceNamesUnsubscribe == [name(5).description])
        #expect(request.resourceNamesSubscribe == [name(1 << 20).description])
        guard case .refused = ask(name(5)) else { throw Unasked() }
        let opening = exchange.opening(DiscoveryNode(nodeName: "n"))
        #expect(opening[0].resourceNamesSubscribe.isEmpty)
        #expect(opening[1].resourceNamesSubscribe.first == "*" && opening[1].resourceNamesUnsubscribe == ["*"])
        #expect(opening[1].resourceNamesSubscribe.count == DiscoveryExchange.mostNames + 1)
    }

    private struct Unasked: Error {}

    @Test("the text of a refusal is bounded, however much is wrong")
    mutating func boundedRefusal() throws {
        var all = try response((0..<2000).map { Samples.workload("w\($0)") }, type: TypeURL.address)
        for index in all.resources.indices { all.resources[index].resource.value = Data([0xff]) }
        let outcome = try receive(all)
        #expect(outcome.refusals.count == 2000)
        #expect(outcome.reply.errorDetail.message.utf8.count < 17 << 10)
        #expect(outcome.reply.errorDetail.message.hasSuffix(" more"))
    }

    @Test("an unknown type is acknowledged and otherwise passed over")
    mutating func unknownType() throws {
        var unknown = Response()
        unknown.typeURL = "type.googleapis.com/other"
        unknown.nonce = "7"
        let outcome = try receive(unknown)
        #expect(outcome.unknownType)
        #expect(outcome.updates.isEmpty)
        #expect(outcome.reply.responseNonce == "7")
        #expect(!outcome.reply.hasErrorDetail)
    }

    @Test(
        "addresses of control planes",
        arguments: [
            ("https://10.0.0.1:15012", true), ("[fd00::1]:15012", true), ("istiod.istio-system.svc:15012", true),
            ("https://localhost:15012/", true), ("http://10.0.0.1:15012", false), ("localhost", false), ("", false),
            ("https://localhost:0", false), ("https://a b:1", false), ("https://localhost:99999", false),
        ])
    func addresses(text: String, isGood: Bool) {
        let settings = DiscoverySettings(
            address: text, roots: .system, token: .none, node: DiscoveryNode(nodeName: "n"))
        #expect(((try? DiscoveryConnector(settings)) != nil) == isGood)
    }
}
