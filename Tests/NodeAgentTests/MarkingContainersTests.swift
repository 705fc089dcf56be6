import ObjectSource
import Testing

@testable import NodeAgent

@Suite("Containers that may set the mark")
struct MarkingContainersTests {
    @Test(
        "capabilities are worked out as runtimes do",
        arguments: [
            (false, [], [], [.netRawByDefault]), (false, [], ["NET_RAW"], []), (false, [], ["all"], []),
            (false, [], ["CAP_NET_RAW"], []), (false, [], ["CHOWN"], [.netRawByDefault]),
            (false, ["NET_RAW"], ["ALL"], [.netRaw]), (false, ["net_admin"], ["ALL"], [.netAdmin]),
            (false, ["CAP_NET_ADMIN"], [], [.netAdmin, .netRawByDefault]), (false, ["ALL"], [], [.netAdmin, .netRaw]),
            (false, ["ALL"], ["NET_RAW", "NET_ADMIN"], []), (false, ["ALL"], ["ALL"], []),
            (false, ["NET_ADMIN"], ["NET_ADMIN", "NET_RAW"], []), (true, [], ["ALL"], [.privileged]),
        ] as [(Bool, [String], [String], [MarkingContainer.Power])])
    func powers(isPrivileged: Bool, added: [String], dropped: [String], powers: [MarkingContainer.Power]) {
        let capabilities = ContainerCapabilities(isPrivileged: isPrivileged, added: added, dropped: dropped)
        #expect(MarkingContainer.powers(capabilities) == powers)
    }

    @Test("only pods that belong in the mesh count, on the node that is asked for")
    func pods() {
        var snapshot = ObjectSnapshot()
        let ambient = ["istio.io/dataplane-mode": "ambient"]
        for (name, node, labels, hostNetwork) in [
            ("b", "n1", ambient, false), ("a", "n2", ambient, false), ("c", "n1", [:], false),
            ("d", "n1", ambient, true),
        ] {
            let spec = PodSpec(nodeName: node, hostNetwork: hostNetwork, containers: [Container(name: "app")])
            snapshot.insert(.pod(Pod(metadata: ObjectMeta(name: name, namespace: "shop", labels: labels), spec: spec)))
        }
        #expect(MarkingContainer.find(in: snapshot).map(\.pod.name) == ["a", "b"])
        #expect(MarkingContainer.find(in: snapshot, node: "n1").map(\.pod.name) == ["b"])
    }
}
