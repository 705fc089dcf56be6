import IstioAPI
import Mesh
import SwiftProtobuf
import Testing

@testable import Discovery

@Suite("What a server tells a client")
struct DiscoverySessionTests {
    typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    var table = ResourceTable(typeURL: TypeURL.address)
    var session = DiscoverySession()

    private mutating func publish(_ resources: [MeshResource]) throws {
        table.apply(try table.difference(to: resources))
    }

    private mutating func send(
        subscribe: [String] = [], unsubscribe: [String] = [], known: [String: String] = [:], nonce: String = "",
        refusal: String? = nil, node: String? = nil
    ) throws -> DiscoverySession.Acknowledgement? {
        var request = Request()
        request.typeURL = TypeURL.address
        request.resourceNamesSubscribe = subscribe
        request.resourceNamesUnsubscribe = unsubscribe
        request.initialResourceVersions = known
        request.responseNonce = nonce
        if let refusal { request.errorDetail.message = refusal }
        if let node { request.node.metadata.fields["NODE_NAME"] = Google_Protobuf_Value(stringValue: node) }
        return try session.receive(request)
    }

    private func names(_ response: Response?) -> [String]? {
        response?.resources.map { String($0.name.split(separator: "/").last ?? "") }
    }

    @Test("everything first, then only what changed, after the answer to the one before")
    mutating func deltas() throws {
        try publish([Samples.workload("a"), Samples.workload("b", address: 2)])
        #expect(session.next(table) == nil)
        _ = try send()
        let first = session.next(table)
        #expect(names(first) == ["a", "b"])
        #expect(first?.resources.first?.aliases == ["/10.0.0.1"])
        #expect(session.next(table) == nil)
        #expect(session.acknowledged(TypeURL.address) == 0)

        // Two changes while the client is slow: one response says both, in their last state.
        try publish([Samples.workload("a", revision: "1"), Samples.workload("b", address: 2)])
        try publish([Samples.workload("a", revision: "2"), Samples.workload("c", address: 3)])
        #expect(session.next(table) == nil)
        #expect(try send(nonce: "stale") == nil)
        #expect(session.next(table) == nil)
        #expect(try send(nonce: first?.nonce ?? "") == .init(typeURL: TypeURL.address, refusal: nil))
        #expect(session.acknowledged(TypeURL.address) == 1)
        let second = session.next(table)
        #expect(names(second) == ["a", "c"])
        #expect(second?.removedResources == ["Kubernetes//Pod/shop/b"])
        #expect(second?.nonce != first?.nonce)
        _ = try send(nonce: second?.nonce ?? "")
        #expect(session.acknowledged(TypeURL.address) == 3)
        #expect(session.next(table) == nil)
    }

    @Test("publishing the same again is no change")
    mutating func same() throws {
        try publish([Samples.workload("a")])
        let generation = table.generation
        try publish([Samples.workload("a")])
        #expect(table.generation == generation)
    }

    @Test("a request is answered, even with nothing")
    mutating func empty() throws {
        _ = try send()
        let response = session.next(table)
        #expect(response?.resources.isEmpty == true)
        #expect(response?.nonce.isEmpty == false)
    }

    @Test("R3: a client that comes back gets what changed and hears what is gone")
    mutating func reconnect() throws {
        try publish([Samples.workload("a"), Samples.workload("b", address: 2)])
        let versions = table.entries.mapValues(\.version)
        _ = try send(known: versions.merging(["Kubernetes//Pod/shop/gone": "1"]) { $1 })
        let first = session.next(table)
        #expect(names(first) == [])
        #expect(first?.removedResources == ["Kubernetes//Pod/shop/gone"])
        _ = try send(nonce: first?.nonce ?? "")
        try publish([Samples.workload("a", revision: "1"), Samples.workload("b", address: 2)])
        #expect(names(session.next(table)) == ["a"])
    }

    @Test("a refused response is not sent again before it changes, and counts as not acknowledged")
    mutating func refusal() throws {
        try publish([Samples.workload("a")])
        _ = try send()
        let nonce = session.next(table)?.nonce ?? ""
        #expect(try send(nonce: nonce, refusal: "bad") == .init(typeURL: TypeURL.address, refusal: "bad"))
        #expect(session.next(table) == nil)
        #expect(session.acknowledged(TypeURL.address) == 0)
        try publish([Samples.workload("a", revision: "1")])
        let next = session.next(table)
        #expect(names(next) == ["a"])
        _ = try send(nonce: next?.nonce ?? "")
        #expect(session.acknowledged(TypeURL.address) == table.generation)
    }

    @Test("R4: names on demand: by uid, address, service with its endpoints; unknown ones come back as removed")
    mutating func onDemand() throws {
        try publish([
            Samples.workload("a", services: ["web"]), Samples.workload("b", address: 2, node: "n2", services: ["web"]),
            Samples.workload("c", address: 3, node: "n3"), Samples.workload("local", address: 4, node: "me"),
            Samples.service("web", address: 1), Samples.service("other", address: 2),
        ])
        // How a client says that it wants nothing yet.
        _ = try send(subscribe: ["*"], unsubscribe: ["*"], node: "me")
        var response = session.next(table)
        #expect(names(response) == ["local"])
        _ = try send(nonce: response?.nonce ?? "")

        _ = try send(subscribe: ["/10.0.0.3"])
        response = session.next(table)
        #expect(names(response) == ["c"])
        _ = try send(nonce: response?.nonce ?? "")

        _ = try send(subscribe: ["/10.96.0.1", "shop/none", "/10.9.9.9"])
        response = session.next(table)
        #expect(names(response) == ["a", "b", "web"])
        #expect(response?.removedResources == ["/10.9.9.9", "shop/none"])
        _ = try send(nonce: response?.nonce ?? "")

        // Asked for again, it is sent again.
        _ = try send(subscribe: ["Kubernetes//Pod/shop/c"])
        response = session.next(table)
        #expect(names(response) == ["c"])
        _ = try send(nonce: response?.nonce ?? "")

        // A new endpoint of a service that was asked for comes unasked; one of another does not.
        try publish([
            Samples.workload("a", services: ["web"]), Samples.workload("d", address: 5, node: "n5", services: ["web"]),
            Samples.workload("c", address: 3, node: "n3"), Samples.workload("local", address: 4, node: "me"),
            Samples.workload("e", address: 6, node: "n5", services: ["other"]),
            Samples.service("web", address: 1), Samples.service("other", address: 2),
        ])
        response = session.next(table)
        #expect(names(response) == ["d"])
        #expect(response?.removedResources == ["Kubernetes//Pod/shop/b"])
        _ = try send(nonce: response?.nonce ?? "")

        // What does not concern the client moves it on without a word.
        try publish([
            Samples.workload("a", services: ["web"]), Samples.workload("d", address: 5, node: "n5", services: ["web"]),
            Samples.workload("c", address: 3, node: "n3"), Samples.workload("local", address: 4, node: "me"),
            Samples.service("web", address: 1), Samples.service("other", address: 2),
        ])
        #expect(session.next(table) == nil)
        #expect(session.acknowledged(TypeURL.address) == table.generation)

        _ = try send(unsubscribe: ["/10.96.0.1", "shop/none", "/10.9.9.9"])
        #expect(session.next(table) == nil)
        try publish([Samples.workload("a", services: ["web"], revision: "9")])
        response = session.next(table)
        #expect(names(response) == [])
        #expect(response?.removedResources == ["Kubernetes//Pod/shop/c", "Kubernetes//Pod/shop/local"])
    }

    @Test("a workload with the node's address is not found by it")
    mutating func hostNetwork() throws {
        try publish([.workload(Samples.fullWorkload)])
        #expect(table.resolve("net1/10.0.0.1").isEmpty)
        #expect(table.resolve("Kubernetes//Pod/shop/web-1") == ["Kubernetes//Pod/shop/web-1"])
    }

    @Test("a client far behind is compared as a whole")
    mutating func farBehind() throws {
        try publish([Samples.workload("a")])
        _ = try send()
        let first = session.next(table)
        for index in 0...ResourceTable.logLimit {
            try publish([Samples.workload("b", address: 2, revision: "\(index)")])
        }
        #expect(table.changes(since: 1) == nil)
        #expect(table.changes(since: table.generation - 1)?.count == 1)
        _ = try send(nonce: first?.nonce ?? "")
        let second = session.next(table)
        #expect(names(second) == ["b"])
        #expect(second?.removedResources == ["Kubernetes//Pod/shop/a"])
    }

    @Test("an unknown type is answered once, with nothing")
    mutating func unknownType() throws {
        var request = Request()
        request.typeURL = "type.googleapis.com/unknown"
        _ = try session.receive(request)
        #expect(session.nextUnknown(request.typeURL)?.typeURL == request.typeURL)
        #expect(session.nextUnknown(request.typeURL) == nil)
    }

    @Test("a client cannot ask for names without end")
    mutating func limits() throws {
        #expect(throws: DiscoverySession.Violation.nameTooLong) {
            _ = try send(subscribe: [String(repeating: "x", count: 2000)])
        }
        #expect(throws: DiscoverySession.Violation.tooManyNames) {
            _ = try send(subscribe: (0...DiscoverySession.maximumNames).map(String.init))
        }
    }
}
