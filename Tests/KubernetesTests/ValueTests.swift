import ObjectSource
import Testing

@testable import Kubernetes

@Suite("Values on the way")
struct ValueTests {
    @Test("what is written as JSON is read as the same")
    func json() throws {
        let value: JSON = [
            "text": "a\"b\\c\n\u{1}é", "number": -7, "yes": true, "none": nil, "list": [1, "x", []], "empty": [:],
            "float": .number("1.50"),
        ]
        let text = String(decoding: value.bytes, as: UTF8.self)
        #expect(
            text
                == #"{"empty":{},"float":1.50,"list":[1,"x",[]],"none":null,"number":-7,"text":"a\"b\\c\u000a\u0001é","yes":true}"#
        )
        #expect(JSON(try DocumentTree(json: value.bytes).root).bytes == value.bytes)
    }

    @Test("lines come whole, however the bytes come")
    func lines() throws {
        let text = Array("{\"a\":1}\n\n{\"b\":22}\r\n{\"c\":333}\n".utf8)
        for size in 1...text.count {
            var splitter = LineSplitter(limit: 100)
            var found: [String] = []
            for start in stride(from: 0, to: text.count, by: size) {
                try splitter.add(text[start..<min(start + size, text.count)])
                while let line = splitter.next() { found.append(String(decoding: line, as: UTF8.self)) }
            }
            #expect(found == ["{\"a\":1}", "{\"b\":22}\r", "{\"c\":333}"], "in pieces of \(size)")
        }
    }

    @Test("a line without an end is refused at the bound")
    func longLine() async throws {
        var splitter = LineSplitter(limit: 10)
        try splitter.add(Array("0123456789".utf8))
        #expect(throws: KubernetesError.self) { try splitter.add([0x30]) }
    }

    @Test(
        "paths of resources",
        arguments: [
            (APIResource(.pod), "/api/v1/namespaces/a/pods/b/status"),
            (APIResource(.namespace), "/api/v1/namespaces/b/status"),
            (APIResource(.peerAuthentication), "/apis/security.istio.io/v1/namespaces/a/peerauthentications/b/status"),
            (
                APIResource(.authorizationPolicy),
                "/apis/security.istio.io/v1/namespaces/a/authorizationpolicies/b/status"
            ),
            (APIResource(.endpointSlice), "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b/status"),
            (APIResource.leases, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b/status"),
        ])
    func paths(resource: APIResource, path: String) {
        #expect(resource.path(namespace: "a", name: "b", subresource: "status") == path)
        #expect(resource.path(namespace: nil, name: "../x y").hasSuffix("/..%2Fx%20y"))
    }

    @Test("a Status object becomes an error in the server's words")
    func status() throws {
        let body = try DocumentTree(
            json: Array(
                """
                {"kind": "Status", "status": "Failure", "reason": "TooManyRequests", "code": 429,
                 "message": "too many requests", "details": {"retryAfterSeconds": 4}}
                """.utf8)
        ).root
        let error = KubernetesError(httpStatus: 429, body: body, retryAfter: nil, doing: "list pods")
        #expect(error.code == .tooManyRequests && error.reason == "TooManyRequests" && error.retryAfter == 4)
        let forbidden = KubernetesError(httpStatus: 403, body: nil, retryAfter: nil, doing: "list pods")
        #expect(
            forbidden.description
                == "the API server answered 403: to list pods (the account lacks the right to list pods)")
        #expect(KubernetesError(statusOfEvent: body, doing: "x").code == .tooManyRequests)
    }

    @Test("a lease's times have six digits, and come back")
    func lease() throws {
        let lease = Lease(
            namespace: "istio-system", name: "leader", holder: "me", duration: .seconds(15), acquired: 1_767_323_045.25,
            renewed: 1_767_323_046.000001, transitions: 3, version: "9")
        let node = try DocumentTree(json: lease.json.bytes).root
        #expect(node["spec"]?["acquireTime"]?.string == "2026-01-02T03:04:05.250000Z")
        let read = try Lease(node)
        #expect(read.holder == "me" && read.transitions == 3 && read.version == "9" && read.duration == .seconds(15))
        #expect(abs((read.renewed ?? 0) - 1_767_323_046.000001) < 0.000_01)
    }

    @Test("an annotation patch sets ours, takes the rest of ours away, and is for one very pod")
    func annotations() {
        let pod = PodReference(name: ObjectName(namespace: "shop", name: "web"), uid: "u")
        let patch = ClusterPodAnnotator.patch(pod, [MeshLabel.redirection: "enabled"])
        #expect(
            String(decoding: patch.bytes, as: UTF8.self)
                == #"{"metadata":{"annotations":{"ambient.istio.io/redirection":"enabled","apus.dev/redirection-problem":null,"apus.dev/spared-connections":null},"uid":"u"}}"#
        )
    }
}

@Suite("Events that do not flood")
struct EventBookTests {
    private func event(_ pod: String, _ reason: String = "EnrollFailed") -> ObjectEvent {
        let subject = PodReference(name: ObjectName(namespace: "shop", name: pod), uid: "u-\(pod)")
        return ObjectEvent(PodEvent(subject, reason: reason, message: "m"))
    }

    @Test("what happens again is counted, and written now and then")
    func series() {
        var book = EventBook()
        #expect(book.note(event("a"), at: 0, suffix: "1") == .create(name: "a.1", count: 1))
        book.written(event("a"))
        #expect(book.note(event("a"), at: 1, suffix: "2") == nil)
        #expect(book.note(event("a"), at: 2, suffix: "3") == nil)
        #expect(book.note(event("a"), at: 11, suffix: "4") == .update(name: "a.1", count: 4))
        #expect(book.note(event("a", "Enrolled"), at: 11, suffix: "5") == .create(name: "a.5", count: 1))
        #expect(book.note(event("a"), at: 11 + EventBook.life + 1, suffix: "6") == .create(name: "a.6", count: 1))
        #expect(book.suppressed == 2)
    }

    @Test("one that could not be written is made anew")
    func lost() {
        var book = EventBook()
        _ = book.note(event("a"), at: 0, suffix: "1")
        book.forget(event("a"))
        #expect(book.note(event("a"), at: 1, suffix: "2") == .create(name: "a.2", count: 1))
    }

    @Test("a crowd is let through up to a bound, then at a steady rate")
    func flood() {
        var book = EventBook()
        func written(_ count: Int, _ prefix: String, at time: Double) -> Int {
            var written = 0
            for index in 0..<count where book.note(event("\(prefix)\(index)"), at: time, suffix: "s") != nil {
                written += 1
            }
            return written
        }
        #expect(written(10_000, "p", at: 0) == Int(EventBook.burst))
        #expect(written(1000, "q", at: 2) == Int(2 * EventBook.rate))
        #expect(book.seriesCount <= EventBook.maximumSeries)
    }

    @Test("a message is cut to what the API takes")
    func message() {
        #expect(EventText.bounded("short") == "short")
        #expect(EventText.bounded(String(repeating: "é", count: 2000)).utf8.count <= 1024)
    }
}
