import Addressing
import Foundation
import IstioAPI
import Mesh
import SwiftProtobuf
import Testing

@testable import Discovery

@Suite("Decoding by hand against generated code")
struct DecoderTests {
    /// Without services: in a map's entry the generated code takes a field of another wire type for the field itself and
    /// reads on from its middle, where protobuf says to pass over it.
    static let flatWorkload: MeshResource = {
        let full = Samples.fullWorkload
        return .workload(
            Workload(
                uid: full.uid, name: full.name, namespace: full.namespace, addresses: Array(full.addresses),
                hostname: full.hostname, network: full.network, tunnelProtocol: full.tunnelProtocol,
                trustDomain: full.trustDomain, serviceAccount: full.serviceAccount, node: full.node,
                canonicalName: full.canonicalName, canonicalRevision: full.canonicalRevision, kind: full.kind,
                workloadName: full.workloadName, nativeTunnel: full.nativeTunnel,
                applicationTunnel: full.applicationTunnel, authorizationPolicies: full.authorizationPolicies,
                status: full.status, clusterID: full.clusterID, locality: full.locality,
                networkMode: full.networkMode, capacity: full.capacity, waypoint: full.waypoint,
                networkGateway: full.networkGateway))
    }()

    static let resources: [MeshResource] = [
        .workload(Samples.fullWorkload), .service(Samples.fullService), .policy(Samples.fullPolicy),
        Samples.workload("w", services: ["a.shop", "b.shop"]), Samples.service("s", address: 1), Samples.policy("p"),
    ]

    /// What generated code makes of a body.
    private func judged(_ resource: MeshResource, _ body: [UInt8]) throws -> MeshResource {
        guard resource.typeURL == TypeURL.address else {
            return .policy(try AuthorizationPolicy(generated: Istio_Security_Authorization(serializedBytes: body)))
        }
        let address = try Istio_Workload_Address(serializedBytes: body)
        switch address.type {
        case .workload(let workload): return .workload(try Workload(generated: workload))
        case .service(let service): return .service(try Service(generated: service))
        case nil: throw ConversionError("type", "is neither")
        }
    }

    private func decoded(_ resource: MeshResource, _ body: [UInt8], _ decoder: ResourceDecoder) throws -> MeshResource {
        switch try decoder.update(name: resource.name, typeURL: resource.typeURL, body: body) {
        case .workload(let workload): return .workload(workload)
        case .service(let service): return .service(service)
        case .policy(_, let policy): return .policy(policy)
        case .remove, .removePolicy: throw ConversionError("update", "is a removal")
        }
    }

    private func compare(_ resource: MeshResource, _ body: [UInt8], _ decoder: ResourceDecoder) {
        let expected = Result { try judged(resource, body) }
        let found = Result { try decoded(resource, body, decoder) }
        switch (expected, found) {
        case (.success(let expected), .success(let found)): #expect(expected == found, "\(body)")
        case (.failure, .failure): break
        case (.success, .failure(let error)): Issue.record("refused: \(error), \(body)")
        case (.failure(let error), .success): Issue.record("taken, and should be refused: \(error), \(body)")
        }
    }

    @Test(
        "the same value or the same refusal, however the bytes are damaged",
        arguments: [
            flatWorkload, .service(Samples.fullService), .policy(Samples.fullPolicy), Samples.workload("w"),
            Samples.service("s", address: 1), Samples.policy("p"),
        ])
    func damaged(resource: MeshResource) throws {
        let whole = [UInt8](try resource.encoded())
        let decoder = ResourceDecoder()
        compare(resource, whole, decoder)
        for end in 0..<whole.count { compare(resource, Array(whole[..<end]), decoder) }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            var body = whole
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                body[Int.random(in: 0..<body.count, using: &random)] = .random(in: 0...255, using: &random)
            }
            compare(resource, body, decoder)
        }
    }

    @Test("a workload with services: cut anywhere the same, damaged anywhere a value or a refusal")
    func damagedMaps() throws {
        let whole = [UInt8](try MeshResource.workload(Samples.fullWorkload).encoded())
        let decoder = ResourceDecoder()
        for end in 0...whole.count { compare(.workload(Samples.fullWorkload), Array(whole[..<end]), decoder) }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            var body = whole
            body[Int.random(in: 0..<body.count, using: &random)] = .random(in: 0...255, using: &random)
            // Either is right; what is held against it is that it ends, within the bytes.
            let result = Result { try decoder.update(name: "x", typeURL: TypeURL.address, body: body) }
            if case .success(.policy) = result { Issue.record("a policy from \(body)") }
        }
    }

    @Test("extensions that are none are refused as generated code refuses them")
    func extensions() throws {
        let decoder = ResourceDecoder()
        let tags: [(MeshResource, [UInt8])] = [
            (.workload(Samples.fullWorkload), [0xd2, 0x01]), (.service(Samples.fullService), [0x52]),
            (.policy(Samples.fullPolicy), [0x3a]),
        ]
        for (resource, tag) in tags {
            let whole = [UInt8](try resource.encoded())
            // Addresses wrap the resource in one more message, whose second half is merged into the first.
            func append(_ field: [UInt8]) -> [UInt8] {
                resource.typeURL == TypeURL.address ? whole + [whole[0], UInt8(field.count)] + field : whole + field
            }
            for content: [UInt8] in [
                [], [0x0a, 1, 0x61], [0x0a, 1, 0xff], [0x0a, 9], [0x12, 2, 0x0a, 0], [0x12, 1, 0x0a],
            ] {
                compare(resource, append(tag + [UInt8(content.count)] + content), decoder)
            }
        }
    }

    @Test("messages that come in two parts are merged, unknown fields and groups passed over")
    func merged() throws {
        let decoder = ResourceDecoder()
        for resource in Self.resources {
            let whole = [UInt8](try resource.encoded())
            compare(resource, whole + whole, decoder)
            // Field 1000: a number, a text, a group with a field in it; then an end of a group that never began.
            let unknown: [UInt8] = [0xc0, 0x3e, 0x01, 0xc2, 0x3e, 0x02, 0xff, 0xfe, 0xc3, 0x3e, 0x08, 0x01, 0xc4, 0x3e]
            compare(resource, unknown + whole + unknown, decoder)
            compare(resource, whole + [0xc4, 0x3e], decoder)
            compare(resource, whole + [0xc3, 0x3e], decoder)
            compare(resource, whole + [0x00], decoder)
        }
    }

    @Test("a text that a later one of the same field replaces has to be a text as well", arguments: [0x0a, 0x4a])
    func replacedText(tag: UInt8) throws {
        let whole = [UInt8](try Samples.workload("w").encoded())
        for content: [UInt8] in [[0x61], [0xff]] {
            let field: [UInt8] = [tag, 1] + content
            // Before the resource's own, which replaces it.
            compare(Samples.workload("w"), [whole[0], UInt8(field.count)] + field + whole, ResourceDecoder())
        }
    }

    @Test("groups in groups without end are refused and not followed")
    func deepGroups() {
        let body = [UInt8](repeating: 0x0b, count: 100_000)
        #expect(throws: ConversionError.self) {
            try ResourceDecoder().update(name: "x", typeURL: TypeURL.address, body: body)
        }
    }

    @Test("what workloads have in common is held once, also with others in between")
    func sharing() throws {
        let decoder = ResourceDecoder()
        func workload(_ name: String, _ revision: String) throws -> Workload {
            let resource = Samples.workload(name, services: ["web.shop.svc.cluster.local"], revision: revision)
            guard
                case .workload(let workload) = try decoder.update(
                    name: resource.name, typeURL: TypeURL.address, body: [UInt8](resource.encoded()))
            else { throw ConversionError("type", "is no workload") }
            return workload
        }
        let first = try workload("a", "v1")
        let other = try workload("b", "v2")
        let second = try workload("c", "v1")
        #expect(first.traits === second.traits)
        #expect(first.traits !== other.traits)
        #expect(first.uid != second.uid)
    }

    @Test("a response: types behind resources, removals, nonce; bytes that are none throw")
    func responses() throws {
        var response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()
        response.typeURL = TypeURL.address
        response.nonce = "7"
        response.removedResources = ["x", "y"]
        for resource in [Samples.workload("a"), Samples.service("s", address: 1)] {
            response.resources.append(
                try .with {
                    $0.name = resource.name
                    $0.version = "v"
                    $0.aliases = resource.aliases
                    $0.resource.typeURL = TypeURL.address
                    $0.resource.value = try resource.encoded()
                })
        }
        let bytes: [UInt8] = try response.serializedBytes()
        let delta = try ResourceDecoder().response(bytes)
        #expect(delta.nonce == "7" && delta.removed == ["x", "y"] && delta.kind == .address)
        #expect(delta.resources.map(\.name) == response.resources.map(\.name))
        #expect(delta.resources.allSatisfy { $0.version == "v" })
        #expect(delta.resourceBytes > 0 && delta.resourceCount == 2)
        for end in 0..<bytes.count {
            // Cut anywhere it is either no response or a shorter one, and never more than it was.
            let part = try? ResourceDecoder().response(Array(bytes[..<end]))
            #expect(part.map { $0.resources.count <= 2 } ?? true)
        }
    }
}
