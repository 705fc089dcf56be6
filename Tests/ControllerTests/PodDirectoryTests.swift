import Mesh
import ObjectSource
import Testing

@testable import Controller

@Suite("Who is on which node")
struct PodDirectoryTests {
    private static func pod(
        _ name: String, _ account: String, _ node: String, uid: String, in namespace: String = "shop",
        phase: PodStatus.Phase? = .running
    ) -> Pod {
        Pod(
            metadata: ObjectMeta(name: name, namespace: namespace, uid: uid),
            spec: PodSpec(serviceAccountName: account, nodeName: node), status: PodStatus(phase: phase))
    }

    private static var snapshot: ObjectSnapshot {
        var snapshot = ObjectSnapshot()
        for pod in [
            pod("web", "web", "n1", uid: "u1"), pod("db", "db", "n2", uid: "u2"),
            pod("failed", "batch", "n1", uid: "u3", phase: .failed),
            pod("done", "cron", "n1", uid: "u4", phase: .succeeded),
            pod("waiting", "slow", "", uid: "u5", phase: .pending),
            pod("z1", "ztunnel", "n1", uid: "z1", in: "istio-system"),
            pod("z2", "ztunnel", "n2", uid: "z2", in: "istio-system", phase: .succeeded),
        ] { snapshot.insert(.pod(pod)) }
        return snapshot
    }

    private static func directory(_ snapshot: ObjectSnapshot = snapshot) -> PodDirectory {
        PodDirectory(
            snapshot, MeshConfiguration(), nodeAccounts: [ObjectName(namespace: "istio-system", name: "ztunnel")],
            patience: .milliseconds(1))
    }

    private static func caller(
        _ account: String, _ pod: String?, uid: String, in namespace: String = "istio-system", node: String = ""
    ) -> Caller {
        Caller(
            namespace: namespace, serviceAccount: account, node: node,
            pod: pod.map { PodReference(name: ObjectName(namespace: namespace, name: $0), uid: uid) })
    }

    @Test("R48: the node of a caller is that of its pod, if the token is bound to one there is")
    func nodes() async {
        let directory = Self.directory()
        let cases: [(String, Caller, String?)] = [
            ("a node's proxy", Self.caller("ztunnel", "z1", uid: "z1"), "n1"),
            ("the token agrees", Self.caller("ztunnel", "z1", uid: "z1", node: "n1"), "n1"),
            ("the token says another node", Self.caller("ztunnel", "z1", uid: "z1", node: "n2"), nil),
            ("a pod of before", Self.caller("ztunnel", "z1", uid: "z0"), nil),
            ("no uid", Self.caller("ztunnel", "z1", uid: ""), nil),
            ("no pod", Self.caller("ztunnel", nil, uid: "", node: "n1"), nil),
            ("a pod that has ended", Self.caller("ztunnel", "z2", uid: "z2"), nil),
            ("a pod that is not there", Self.caller("ztunnel", "z9", uid: "z9"), nil),
            ("another account's pod", Self.caller("ztunnel", "web", uid: "u1", in: "shop"), nil),
            ("another account", Self.caller("web", "web", uid: "u1", in: "shop"), nil),
            (
                "a node token",
                Caller(namespace: "istio-system", serviceAccount: "ztunnel", node: "n7", isNodeItself: true),
                "n7"
            ),
            ("a node token without node", Caller(namespace: "a", serviceAccount: "b", isNodeItself: true), nil),
        ]
        for (name, caller, node) in cases {
            #expect(await directory.node(of: caller) == node, "\(name)")
        }
    }

    @Test("R47: a token that is bound to a pod is good for as long as that pod is there")
    func ownPods() async {
        let directory = Self.directory()
        #expect(await directory.isThere(Self.caller("web", "web", uid: "u1", in: "shop")))
        #expect(await directory.isThere(Self.caller("web", nil, uid: "", in: "shop")))
        for caller in [
            Self.caller("web", "web", uid: "u9", in: "shop"), Self.caller("db", "web", uid: "u1", in: "shop"),
            Self.caller("web", "gone", uid: "u1", in: "shop"), Self.caller("cron", "done", uid: "u4", in: "shop"),
        ] { #expect(await !directory.isThere(caller), "\(caller)") }
    }

    @Test("R48: the index follows the pods: who came is found, who went is not, at every moment")
    func index() {
        var snapshot = Self.snapshot
        var index = PodIndex(snapshot.pods)
        func has(_ account: String, _ node: String) -> Bool {
            index.hasPod(at: .init(node: node, account: ObjectName(namespace: "shop", name: account)))
        }
        #expect(has("web", "n1") && !has("web", "n2") && has("db", "n2"))
        #expect(!has("batch", "n1") && has("cron", "n1") && !has("slow", ""))
        // It went to another node, and another pod of the account came.
        snapshot.insert(.pod(Self.pod("web", "web", "n2", uid: "u1")))
        index.update(snapshot.pods)
        #expect(has("web", "n2") && !has("web", "n1"))
        snapshot.insert(.pod(Self.pod("web-2", "web", "n1", uid: "u6")))
        index.update(snapshot.pods)
        #expect(has("web", "n1") && has("web", "n2"))
        // The one that stood for the others goes, and another one still counts.
        snapshot.insert(.pod(Self.pod("web-3", "web", "n1", uid: "u7")))
        index.update(snapshot.pods)
        #expect(has("web", "n1"))
        for name in ["web-2", "web-3"] {
            snapshot.remove(ObjectKey(kind: .pod, name: ObjectName(namespace: "shop", name: name)))
            index.update(snapshot.pods)
            #expect(has("web", "n1") == (name == "web-2"))
        }
    }
}
