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

    /// The response that is due, as a client reads it. The order of what is in it has no meaning.
    private mutating func next() throws -> Response? {
        try session.next(table).map { push in
            let bytes: [UInt8] = push.bytes()
            var response = try Response(serializedBytes: bytes)
            #expect(response.resources.count == push.body.resources)
            response.resources.sort { $0.name < $1.name }
            response.removedResources.sort()
            return response
        }
    }

    private func names(_ response: Response?) -> [String]? {
        response?.resources.map { String($0.name.split(separator: "/").last ?? "") }
    }

    @Test("everything first, then only what changed, after the answer to the one before")
    mutating func deltas() throws {
        try publish([Samples.workload("a"), Samples.workload("b", address: 2)])
        #expect(try next() == nil)
        _ = try send()
        let first = try next()
        #expect(names(first) == ["a", "b"])
        #expect(first?.resources.first?.aliases == ["/10.0.0.1"])
        #expect(try next() == nil)
        #expect(session.acknowledged(TypeURL.address) == 0)

        // Two changes while the client is slow: one response says both, in their last state.
        try publish([Samples.workload("a", revision: "1"), Samples.workload("b", address: 2)])
        try publish([Samples.workload("a", revision: "2"), Samples.workload("c", address: 3)])
        #expect(try next() == nil)
        #expect(try send(nonce: "stale") == nil)
        #expect(try next() == nil)
        #expect(try send(nonce: first?.nonce ?? "") == .init(typeURL: TypeURL.address, refusal: nil))
        #expect(session.acknowledged(TypeURL.address) == 1)
        let second = try next()
        #expect(names(second) == ["a", "c"])
        #expect(second?.removedResources == ["Kubernetes//Pod/shop/b"])
        #expect(second?.nonce != first?.nonce)
        _ = try send(nonce: second?.nonce ?? "")
        #expect(session.acknowledged(TypeURL.address) == 3)
        #expect(try next() == nil)
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
        let response = try next()
        #expect(response?.resources.isEmpty == true)
        #expect(response?.nonce.isEmpty == false)
    }

    @Test("R3: a client that comes back gets what changed and hears what is gone")
    mutating func reconnect() throws {
        try publish([Samples.workload("a"), Samples.workload("b", address: 2)])
        let versions = Dictionary(uniqueKeysWithValues: table.entries.map { ($0.key, $0.value.version) })
        _ = try send(known: versions.merging(["Kubernetes//Pod/shop/gone": "1"]) { $1 })
        let first = try next()
        #expect(names(first) == [])
        #expect(first?.removedResources == ["Kubernetes//Pod/shop/gone"])
        _ = try send(nonce: first?.nonce ?? "")
        try publish([Samples.workload("a", revision: "1"), Samples.workload("b", address: 2)])
        #expect(names(try next()) == ["a"])
    }

    @Test("a refused response is not sent again before it changes, and counts as not acknowledged")
    mutating func refusal() throws {
        try publish([Samples.workload("a")])
        _ = try send()
        let nonce = try next()?.nonce ?? ""
        #expect(try send(nonce: nonce, refusal: "bad") == .init(typeURL: TypeURL.address, refusal: "bad"))
        #expect(try next() == nil)
        #expect(session.acknowledged(TypeURL.address) == 0)
        try publish([Samples.workload("a", revision: "1")])
        let next = try next()
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
        var response = try next()
        #expect(names(response) == ["local"])
        _ = try send(nonce: response?.nonce ?? "")

        _ = try send(subscribe: ["/10.0.0.3"])
        response = try next()
        #expect(names(response) == ["c"])
        _ = try send(nonce: response?.nonce ?? "")

        _ = try send(subscribe: ["/10.96.0.1", "shop/none", "/10.9.9.9"])
        response = try next()
        #expect(names(response) == ["a", "b", "web"])
        #expect(response?.removedResources == ["/10.9.9.9", "shop/none"])
        _ = try send(nonce: response?.nonce ?? "")

        // Asked for again, it is sent again.
        _ = try send(subscribe: ["Kubernetes//Pod/shop/c"])
        response = try next()
        #expect(names(response) == ["c"])
        _ = try send(nonce: response?.nonce ?? "")

        // A new endpoint of a service that was asked for comes unasked; one of another does not.
        try publish([
            Samples.workload("a", services: ["web"]), Samples.workload("d", address: 5, node: "n5", services: ["web"]),
            Samples.workload("c", address: 3, node: "n3"), Samples.workload("local", address: 4, node: "me"),
            Samples.workload("e", address: 6, node: "n5", services: ["other"]),
            Samples.service("web", address: 1), Samples.service("other", address: 2),
        ])
        response = try next()
        #expect(names(response) == ["d"])
        #expect(response?.removedResources == ["Kubernetes//Pod/shop/b"])
        _ = try send(nonce: response?.nonce ?? "")

        // What does not concern the client moves it on without a word.
        try publish([
            Samples.workload("a", services: ["web"]), Samples.workload("d", address: 5, node: "n5", services: ["web"]),
            Samples.workload("c", address: 3, node: "n3"), Samples.workload("local", address: 4, node: "me"),
            Samples.service("web", address: 1), Samples.service("other", address: 2),
        ])
        #expect(try next() == nil)
        #expect(session.acknowledged(TypeURL.address) == table.generation)

        _ = try send(unsubscribe: ["/10.96.0.1", "shop/none", "/10.9.9.9"])
        #expect(try next() == nil)
        try publish([Samples.workload("a", services: ["web"], revision: "9")])
        response = try next()
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
        let first = try next()
        // More than is remembered in order.
        let many = (0...ChangeHistory.nameLimit).map { Samples.workload("m\($0)") }
        try publish(many)
        try publish([Samples.workload("b", address: 2)])
        #expect(
            table.changes(since: table.generation - 1, told: table.generation - 1)?.present == [
                "Kubernetes//Pod/shop/b"
            ])
        #expect(table.changes(since: table.generation - 1, told: table.generation - 1)?.gone.count == many.count)
        #expect(table.changes(since: 1, told: 1)?.gone == ["Kubernetes//Pod/shop/a"])
        _ = try send(nonce: first?.nonce ?? "")
        let second = try next()
        #expect(names(second) == ["b"])
        #expect(second?.removedResources == ["Kubernetes//Pod/shop/a"])
    }

    @Test("what came and went in between is not said; what came back and went is")
    mutating func comeAndGo() throws {
        try publish([Samples.workload("a")])
        _ = try send()
        let first = try next()
        try publish([Samples.workload("a"), Samples.workload("b", address: 2)])
        try publish([Samples.workload("a")])
        try publish([Samples.workload("b", address: 2)])
        try publish([Samples.workload("a", revision: "2"), Samples.workload("b", address: 2)])
        try publish([])
        _ = try send(nonce: first?.nonce ?? "")
        let second = try next()
        #expect(names(second) == [])
        #expect(second?.removedResources == ["Kubernetes//Pod/shop/a"])
    }

    @Test("who has not heard of more than is remembered has to begin anew, and others are not concerned")
    mutating func tooFarBehind() throws {
        try publish([Samples.workload("a")])
        _ = try send()
        let first = try next()
        var other = DiscoverySession()
        for round in 0...1 {
            let many = (0...ChangeHistory.buriedLimit / 2).map { Samples.workload("m\(round)-\($0)") }
            try publish(many)
            try publish([Samples.workload("b")])
        }
        #expect(table.changes(since: 1, told: 1) == nil && table.versions(asOf: 1, told: 1) == nil)
        _ = try send(nonce: first?.nonce ?? "")
        #expect(throws: DiscoverySession.Violation.tooFarBehind) { _ = try session.next(table) }
        var request = Request()
        request.typeURL = TypeURL.address
        request.initialResourceVersions = ["Kubernetes//Pod/shop/a": "1"]
        _ = try other.receive(request)
        session = other
        let second = try next()
        #expect(names(second) == ["b"])
        #expect(second?.removedResources == ["Kubernetes//Pod/shop/a"])
    }

    @Test("clients of one generation are sent the very same bytes")
    mutating func shared() throws {
        try publish([Samples.workload("a"), Samples.workload("b", address: 2)])
        var sessions = [DiscoverySession(), DiscoverySession(), DiscoverySession()]
        var request = Request()
        request.typeURL = TypeURL.address
        var bodies: [DiscoveryPush.Body] = []
        for index in sessions.indices {
            _ = try sessions[index].receive(request)
            bodies.append(try #require(try sessions[index].next(table)).body)
        }
        #expect(bodies[0] === bodies[1] && bodies[1] === bodies[2])
        #expect(bodies[0].resources == 2)
    }

    @Test("everything, then names alone: what the client has is not sent again")
    mutating func fromAllToNames() throws {
        try publish([Samples.workload("a"), Samples.workload("b", address: 2), Samples.workload("c", address: 3)])
        _ = try send()
        let first = try next()
        _ = try send(nonce: first?.nonce ?? "")
        _ = try send(subscribe: ["/10.0.0.2"], unsubscribe: ["*"])
        let second = try next()
        // Asked for by name, so it is answered.
        #expect(names(second) == ["b"])
        _ = try send(nonce: second?.nonce ?? "")
        try publish([Samples.workload("a", revision: "2"), Samples.workload("c", address: 3)])
        let third = try next()
        #expect(names(third) == [] && third?.removedResources == ["Kubernetes//Pod/shop/b"])
        _ = try send(nonce: third?.nonce ?? "")
        _ = try send(subscribe: ["*"])
        #expect(names(try next()) == ["a", "c"])
    }

    @Test("an unknown type is answered once, with nothing")
    mutating func unknownType() throws {
        var request = Request()
        request.typeURL = "type.googleapis.com/unknown"
        _ = try session.receive(request)
        let push = try #require(try session.nextUnknown(request.typeURL))
        let bytes: [UInt8] = push.bytes()
        let response = try Response(serializedBytes: bytes)
        #expect(response.typeURL == request.typeURL && response.resources.isEmpty && !response.nonce.isEmpty)
        #expect(try session.nextUnknown(request.typeURL) == nil)
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
