import ObjectSource
import Testing

@testable import NodeAgent

@Suite("Who is enrolled")
struct EnrolmentTests {
    struct Row: Sendable, CustomTestStringConvertible {
        var namespace = "shop"
        var namespaceLabel: String?
        var podLabel: String?
        var hostNetwork = false
        var annotations: [String: String] = [:]
        var phase: PodStatus.Phase? = .running
        let expected: EnrolmentDecision

        var testDescription: String {
            "\(namespace) \(namespaceLabel ?? "-") \(podLabel ?? "-") \(hostNetwork) \(annotations) -> \(expected)"
        }
    }

    static let rows: [Row] = [
        Row(expected: .stayOut(.notLabelled)),
        Row(namespaceLabel: "ambient", expected: .enrol),
        Row(podLabel: "ambient", expected: .enrol),
        Row(namespaceLabel: "ambient", podLabel: "ambient", expected: .enrol),
        Row(namespaceLabel: "ambient", podLabel: "none", expected: .stayOut(.podOptsOut)),
        Row(namespaceLabel: "none", podLabel: "ambient", expected: .enrol),
        Row(namespaceLabel: "none", expected: .stayOut(.notLabelled)),
        // Values are compared exactly, and a pod's other value does not keep its namespace's label out.
        Row(namespaceLabel: "Ambient", expected: .stayOut(.notLabelled)),
        Row(namespaceLabel: "", expected: .stayOut(.notLabelled)),
        Row(namespaceLabel: "ambient", podLabel: "None", expected: .enrol),
        Row(namespaceLabel: "ambient", podLabel: "", expected: .enrol),
        Row(podLabel: "AMBIENT", expected: .stayOut(.notLabelled)),
        Row(namespaceLabel: "ambient", hostNetwork: true, expected: .stayOut(.hostNetwork)),
        Row(podLabel: "ambient", hostNetwork: true, expected: .stayOut(.hostNetwork)),
        Row(
            namespaceLabel: "ambient", annotations: ["sidecar.istio.io/status": ""], expected: .stayOut(.sidecar)),
        Row(
            podLabel: "ambient", annotations: ["sidecar.istio.io/status": "{}"], expected: .stayOut(.sidecar)),
        Row(namespaceLabel: "ambient", annotations: ["sidecar.istio.io/inject": "true"], expected: .enrol),
        Row(namespace: "kube-system", namespaceLabel: "ambient", expected: .stayOut(.exemptNamespace)),
        Row(namespace: "kube-system", podLabel: "ambient", expected: .stayOut(.exemptNamespace)),
        Row(namespace: "istio-system", podLabel: "ambient", expected: .stayOut(.exemptNamespace)),
        Row(namespaceLabel: "ambient", phase: .succeeded, expected: .stayOut(.finished)),
        Row(namespaceLabel: "ambient", phase: .failed, expected: .stayOut(.finished)),
        Row(namespaceLabel: "ambient", phase: .pending, expected: .enrol),
        Row(namespaceLabel: "ambient", phase: .unknown, expected: .enrol),
        Row(namespaceLabel: "ambient", phase: nil, expected: .enrol),
    ]

    @Test("as the labels say", arguments: rows)
    func decide(row: Row) {
        var labels: [String: String] = [:]
        if let label = row.podLabel { labels["istio.io/dataplane-mode"] = label }
        let pod = Pod(
            metadata: ObjectMeta(name: "p", namespace: row.namespace, labels: labels, annotations: row.annotations),
            spec: PodSpec(hostNetwork: row.hostNetwork), status: PodStatus(phase: row.phase))
        var namespaceLabels = ["kubernetes.io/metadata.name": row.namespace]
        if let label = row.namespaceLabel { namespaceLabels["istio.io/dataplane-mode"] = label }
        #expect(EnrolmentRules().decide(pod, namespaceLabels: namespaceLabels) == row.expected)
    }

    @Test("a label in an exempt namespace is reported")
    func vainRequests() {
        var snapshot = ObjectSnapshot()
        let label = ["istio.io/dataplane-mode": "ambient"]
        snapshot.namespaces["kube-system"] = Namespace("kube-system", labels: label)
        snapshot.namespaces["istio-system"] = Namespace("istio-system", labels: ["istio.io/dataplane-mode": "none"])
        snapshot.namespaces["shop"] = Namespace("shop", labels: label)
        for (namespace, labels) in [("istio-system", label), ("kube-system", [:]), ("shop", label)] {
            snapshot.insert(.pod(Pod(metadata: ObjectMeta(name: "p", namespace: namespace, labels: labels))))
        }
        #expect(EnrolmentRules().vainRequests(in: snapshot) == ["namespace kube-system", "pod istio-system/p"])
        #expect(EnrolmentRules(exemptNamespaces: []).vainRequests(in: snapshot).isEmpty)
    }

    @Test(
        "the annotation that leaves inbound traffic alone",
        arguments: [
            (nil, false, 0), ("true", true, 0), ("T", true, 0), ("1", true, 0), ("True", true, 0),
            ("false", false, 0), ("0", false, 0), ("F", false, 0), ("yes", false, 1), ("", false, 1),
            ("tRUE", false, 1),
        ] as [(String?, Bool, Int)])
    func bypass(value: String?, bypasses: Bool, problems: Int) {
        let overrides = CaptureOverrides(value.map { ["ambient.istio.io/bypass-inbound-capture": $0] } ?? [:])
        #expect(overrides.bypassesInbound == bypasses)
        #expect(overrides.invalid.count == problems)
    }

    @Test("more interfaces of guests than count are said, and the first count")
    func manyVirtualInterfaces() {
        let names = (10..<50).map { "net\($0)" }
        let overrides = CaptureOverrides(["istio.io/reroute-virtual-interfaces": names.joined(separator: ",")])
        #expect(overrides.virtualInterfaces == Array(names.prefix(32)))
        #expect(
            overrides.invalid == ["istio.io/reroute-virtual-interfaces: 40 names; only the first 32, sorted, count"])
    }

    @Test(
        "the annotation that names the interfaces of guests",
        arguments: [
            (nil, [], 0), ("", [], 0), (" , ,", [], 0), ("net1", ["net1"], 0),
            (" net1 ,\tbr-1,net1", ["br-1", "net1"], 0), ("123456789012345", ["123456789012345"], 0),
            ("1234567890123456,net1", ["net1"], 1), ("a/b,c d,e:f,..,lo", [], 5), ("net\u{e4}", ["net\u{e4}"], 0),
        ] as [(String?, [String], Int)])
    func virtualInterfaces(value: String?, names: [String], problems: Int) {
        let overrides = CaptureOverrides(value.map { ["istio.io/reroute-virtual-interfaces": $0] } ?? [:])
        #expect(overrides.virtualInterfaces == names)
        #expect(overrides.invalid.count == problems)
        #expect(overrides.invalid.allSatisfy { $0.hasPrefix("istio.io/reroute-virtual-interfaces: \"") })
    }
}
