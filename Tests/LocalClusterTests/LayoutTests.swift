import Addressing
import LinuxNetwork
import Netlink
import Testing

@testable import LocalCluster

@Suite("Names, records and foreign pods")
struct LayoutTests {
    @Test(
        "ids of runs",
        arguments: [
            ("a", true), ("0k3x9z", true), ("abcdefghijkl", true), ("abcdefghijklm", false), ("", false), ("A", false),
            ("a-b", false), ("../x", false), ("a b", false),
        ])
    func ids(run: String, isGood: Bool) {
        #expect((RunLayout(run: run) != nil) == isGood)
    }

    @Test func randomIdsAreGoodAndDiffer() {
        var generator = SystemRandomNumberGenerator()
        let runs = (0..<50).map { _ in RunLayout.random(using: &generator).run }
        #expect(runs.allSatisfy { RunLayout(run: $0) != nil })
        #expect(Set(runs).count > 45)
    }

    @Test func names() throws {
        let layout = try #require(RunLayout(run: "t1"))
        #expect(layout.nodeNamespace(2) == "apus-t1-n2")
        #expect(layout.podNamespace("shop", "web") == "apus-t1-p-shop-web")
        #expect(layout.controllerURL == "https://10.200.0.1:15012")
        #expect(RunLayout.podsV6(10) == "fd00:201:a::/64")
        // A unix socket's path has room for 107 bytes.
        let long = try #require(RunLayout(run: "abcdefghijkl"))
        #expect(LocalNode(index: 99, layout: long).ztunnelSocket.utf8.count <= 107)
    }

    @Test func aRecordSaysWhetherItsOwnerLives() throws {
        let own = try #require(ProcessIdentity.own)
        #expect(RunRecord(run: "t1", kind: .test, owner: own).isOwned)
        let earlier = ProcessIdentity(pid: own.pid, startTime: own.startTime - 1)
        #expect(!RunRecord(run: "t1", kind: .test, owner: earlier).isOwned)
    }

    @Test func aSignalReachesOnlyTheProcessThatIsMeant() throws {
        let own = try #require(ProcessIdentity.own)
        // Same id, other start: the process this once named has ended.
        #expect(!ProcessIdentity(pid: own.pid, startTime: own.startTime + 1).signal(9))
        #expect(own.isAlive)
        #expect(own.namespace == (try NetworkNamespace.current().id))
        #expect(!own.arguments.isEmpty)
    }

    @Test(
        "foreign pods",
        arguments: [
            ("web=shop/client", "/run/netns/web", "shop", "client"),
            ("/proc/42/ns/net=a/b-1", "/proc/42/ns/net", "a", "b-1"),
        ])
    func foreign(argument: String, path: String, namespace: String, name: String) throws {
        #expect(try ForeignPod(argument: argument) == ForeignPod(path: path, namespace: namespace, name: name))
    }

    @Test(
        "arguments that name no pod",
        arguments: [
            "", "web", "web=shop", "=shop/web", "web=/web", "web=shop/", "web=shop/a/b", "web=shop/A", "a=b=c/d",
            "web=shop/-a",
        ])
    func notForeign(argument: String) {
        #expect(throws: LocalClusterError.self) { try ForeignPod(argument: argument) }
    }

    @Test func aResultIsMadeFromWhatIsThere() throws {
        func addresses(_ texts: (String, Int)...) throws -> [InterfaceAddress] {
            try texts.map { InterfaceAddress(try #require(IPAddress($0.0)), prefixLength: $0.1, interface: 1) }
        }
        let shown = [
            ForeignPod.Interface(
                name: "lo", isUp: true, hardwareAddress: [0, 0, 0, 0, 0, 0],
                addresses: try addresses(("127.0.0.1", 8), ("::1", 128))),
            ForeignPod.Interface(
                name: "down0", isUp: false, hardwareAddress: [], addresses: try addresses(("10.9.9.9", 24))),
            ForeignPod.Interface(
                name: "eth0", isUp: true, hardwareAddress: [2, 0, 0, 0, 0, 0x1f],
                addresses: try addresses(("10.77.0.1", 24), ("fd00::1", 64), ("fe80::1", 64))),
        ]
        let (text, found) = try ForeignPod.result(shown, path: "/run/netns/x")
        #expect(found.map(\.description) == ["10.77.0.1", "fd00::1"])
        #expect(
            text.contains(#""ips":[{"address":"10.77.0.1/24","interface":0},{"address":"fd00::1/64","interface":0}]"#))
        #expect(text.contains(#"{"mac":"02:00:00:00:00:1f","name":"eth0","sandbox":"/run/netns/x"}"#))
        #expect(throws: LocalClusterError.self) { try ForeignPod.result([], path: "/run/netns/x") }
    }

    @Test func attachedObjectsAreReadable() throws {
        let yaml = Attachment.objects([
            (ForeignPod(path: "/run/netns/a", namespace: "bench", name: "client"), "n1"),
            (ForeignPod(path: "/run/netns/b", namespace: "bench", name: "server"), "n2"),
        ])
        let pods = try PodManifest.all(yaml: yaml)
        #expect(pods.map(\.key) == ["bench/client", "bench/server"])
        #expect(pods.map(\.node) == ["n1", "n2"])
        #expect(yaml.contains("action: ALLOW"))
        #expect(yaml.contains(#"namespaces: ["bench"]"#))
    }
}
