import Addressing
import Testing

@testable import Mesh

@Suite("Baggage")
struct BaggageTests {
    static let workload = Workload(
        uid: "u", name: "web-1", namespace: "ns", canonicalName: "web", canonicalRevision: "v1", kind: .cronjob,
        workloadName: "web-job", clusterID: "c1", locality: Locality(region: "r", zone: "z"))

    @Test("all members in their order")
    func full() {
        let value = Baggage(Self.workload).headerValue
        #expect(
            value
                == "k8s.cluster.name=c1,k8s.namespace.name=ns,k8s.cronjob.name=web-job,service.name=web,"
                + "service.version=v1,cloud.region=r,cloud.availability_zone=z")
        #expect(Baggage(headerValue: value) == Baggage(Self.workload))
    }

    @Test("empty members are left out")
    func partial() {
        let value = Baggage(Workload(uid: "u", name: "n", namespace: "ns")).headerValue
        #expect(value == "k8s.cluster.name=Kubernetes,k8s.namespace.name=ns")
        #expect(Baggage().headerValue.isEmpty)
    }

    @Test("a value that would break the header is left out")
    func hostileValues() {
        for bad in ["a,b", "a b", "a\r\nx: y", "a;b", "a\"b", "é", "a\\b"] {
            let value = Baggage(Workload(uid: "u", name: "n", namespace: "ns", canonicalName: bad)).headerValue
            #expect(value == "k8s.cluster.name=Kubernetes,k8s.namespace.name=ns")
        }
    }

    struct Row: Sendable {
        let header: String
        let name: String
        let revision: String
    }

    @Test(
        "reads what peers send",
        arguments: [
            Row(header: "service.name=a", name: "a", revision: ""),
            Row(header: " service.name = a , service.version=b ", name: "a", revision: "b"),
            Row(header: "service.name=a;prop=1,service.version=b", name: "a", revision: "b"),
            Row(header: "service.name=a,service.name=b", name: "b", revision: ""),
            Row(header: "service.name=,service.version=b", name: "", revision: "b"),
            Row(header: "service.name=a=b", name: "a=b", revision: ""),
            Row(header: "unknown=1,,=,service.version=b", name: "", revision: "b"),
            Row(header: "service.name", name: "", revision: ""),
            Row(header: "", name: "", revision: ""),
        ])
    func reading(_ row: Row) {
        let baggage = Baggage(headerValue: row.header)
        #expect(baggage.canonicalName == row.name && baggage.canonicalRevision == row.revision)
    }

    @Test("several headers count as one", arguments: Workload.Kind.allCases)
    func several(kind: Workload.Kind) {
        let baggage = Baggage(headerValues: ["service.name=a", "k8s.\(kind.rawValue).name=w"])
        #expect(baggage.canonicalName == "a" && baggage.workloadName == "w" && baggage.kind == kind)
    }

    @Test("bounds")
    func bounds() {
        let members = String(repeating: "x=y,", count: Baggage.maximumMembers)
        #expect(Baggage(headerValue: members + "service.name=a").canonicalName.isEmpty)
        #expect(Baggage(headerValue: "service.name=a," + members).canonicalName == "a")
        let long = String(repeating: "a", count: Baggage.maximumValueLength)
        #expect(Baggage(headerValue: "service.name=\(long)").canonicalName == long)
        #expect(Baggage(headerValue: "service.name=\(long)a").canonicalName.isEmpty)
        let huge = "service.name=a," + String(repeating: "x", count: Baggage.maximumLength)
        #expect(Baggage(headerValue: huge).isEmpty)
        #expect(Baggage(headerValues: ["service.name=a", huge]).canonicalName == "a")
    }

    @Test("never fails on garbage, and what it takes it writes so that it reads the same")
    func fuzz() {
        var random = FixedRandom(31)
        let pieces = [
            "service.name", "service.version", "k8s.pod.name", "k8s.cluster.name", "cloud.region", "=", "=", ",", ",",
            ";",
            " ", "\t", "a", "b", "%2C", "\u{0}", "é", "\"", "\\",
        ]
        for _ in 0..<10000 {
            let text = (0..<Int.random(in: 0...20, using: &random))
                .map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            let baggage = Baggage(headerValue: text)
            #expect(Baggage(headerValue: baggage.headerValue) == baggage)
        }
    }
}

@Suite("Forwarded")
struct ForwardedTests {
    @Test("as it is written")
    func building() {
        #expect(
            Forwarded(source: endpoint("10.0.0.1:80"), host: "web.ns").headerValue == #"for="10.0.0.1:80";host=web.ns"#)
        #expect(Forwarded(source: endpoint("[::1]:80")).headerValue == #"for="[::1]:80""#)
        #expect(Forwarded(source: nil, host: "web.ns").headerValue == "host=web.ns")
    }

    struct Row: Sendable {
        let header: String
        let expect: String?
    }

    @Test(
        "as it is read",
        arguments: [
            Row(header: #"for="10.0.0.1:80";host=web.ns"#, expect: "10.0.0.1:80 web.ns"),
            Row(header: #"for="[::1]:80""#, expect: "[::1]:80 -"),
            Row(header: #"For="[::ffff:10.0.0.1]:80" ; HOST=Web.NS"#, expect: "10.0.0.1:80 web.ns"),
            Row(header: "for=10.0.0.1:80", expect: "10.0.0.1:80 -"),
            Row(header: #"by=x;host="web.ns";proto=http"#, expect: "- web.ns"),
            Row(header: #"host="w\eb.ns""#, expect: "- web.ns"),
            Row(header: "for=unknown", expect: "- -"),
            Row(header: "for=10.0.0.1:80, for=10.0.0.2:80", expect: "10.0.0.1:80 -"),
            Row(header: #"host="a b""#, expect: "- -"),
            Row(header: #"host="unfinished"#, expect: nil),
            Row(header: #"host="web\"#, expect: nil),
            Row(header: "host=", expect: nil),
            Row(header: "host", expect: nil),
            Row(header: "", expect: nil),
            Row(header: ";", expect: nil),
            Row(header: "host=web.ns garbage", expect: nil),
            Row(header: "host=\"web\u{0}\"", expect: nil),
        ])
    func reading(_ row: Row) {
        let line = Forwarded(headerValue: row.header).map {
            "\($0.source.map(\.description) ?? "-") \($0.host ?? "-")"
        }
        #expect(line == row.expect)
        #expect(Forwarded.host(in: row.header) == Forwarded(headerValue: row.header)?.host)
    }

    @Test("longer than the bound is malformed")
    func bound() {
        #expect(Forwarded(headerValue: "x=" + String(repeating: "a", count: Forwarded.maximumLength)) == nil)
    }

    @Test("never fails on garbage, and what it takes it writes so that it reads the same")
    func fuzz() {
        var random = FixedRandom(37)
        let pieces = [
            "for", "host", "by", "=", "=", ";", "\"", "\"", "\\", ",", " ", "10.0.0.1:80", "[::1]:9", "web.ns", "a",
            "\u{1}", "é",
        ]
        for _ in 0..<10000 {
            let text = (0..<Int.random(in: 0...14, using: &random))
                .map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            guard let forwarded = Forwarded(headerValue: text), forwarded != Forwarded(source: nil) else { continue }
            #expect(Forwarded(headerValue: forwarded.headerValue) == forwarded)
        }
    }
}

@Suite("Trace context")
struct TraceParentTests {
    @Test("written as version 00 without flags, and read back")
    func roundTrip() {
        var random = FixedRandom(41)
        for _ in 0..<100 {
            let trace = TraceParent(random: &random)
            #expect(trace.headerValue.utf8.count == 55 && trace.traceID.utf8.count == 32)
            #expect(trace.headerValue == "00-\(trace.traceID)-\(trace.headerValue.dropFirst(36).prefix(16))-00")
            #expect(TraceParent(headerValue: trace.headerValue) == trace)
        }
    }

    @Test(
        "refused",
        arguments: [
            "", "00", "00-0-0-0", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        ])
    func refused(_ text: String) {
        #expect(TraceParent(headerValue: text) == nil)
    }

    @Test("the example of the specification")
    func example() {
        let trace = TraceParent(headerValue: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        #expect(trace?.traceID == "0af7651916cd43dd8448eb211c80319c" && trace?.flags == 1)
    }
}
