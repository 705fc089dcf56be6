import Addressing
import Foundation
import Testing

@testable import LocalCluster

/// The cluster without a mesh: namespaces, the real CNI chain, pods and traffic. Pods of an exempt namespace start
/// without an agent, so nothing else is needed. As root.
@Suite("The local cluster's network", .serialized)
struct ClusterNetworkTests {
    private static let pods = """
        kind: Pod
        metadata: {name: client, namespace: kube-system}
        spec: {nodeName: n1, containers: [{name: a, command: [apus, local, pod-client]}]}
        ---
        kind: Pod
        metadata: {name: server, namespace: kube-system}
        spec:
          nodeName: n2
          containers: [{name: a, command: [apus, local, pod-server, --http, "8080", --echo, "9000"]}]
        """

    private func withCluster(_ body: (LocalCluster) throws -> Void) throws {
        let cluster = try LocalCluster(.init(kind: .test, programs: TestMachine.programs()))
        do {
            try cluster.source.put("pods.yaml", Self.pods)
            try cluster.buildNetwork()
            try body(cluster)
        } catch {
            try? cluster.down()  // the first error is the one to tell
            throw error
        }
        try cluster.down()
        #expect(cluster.layout.existingNamespaces().isEmpty)
        #expect(!FileManager.default.fileExists(atPath: cluster.layout.folder))
    }

    @Test func podsOnTwoNodesTalkAndTheWireShowsIt() throws {
        try withCluster { cluster in
            try cluster.startPods()
            let client = try cluster.pod("kube-system/client")
            let server = try cluster.pod("kube-system/server")
            #expect(client.addresses.map(\.description) == ["10.201.1.2", "fd00:201:1::2"])
            #expect(server.addresses.map(\.description) == ["10.201.2.2", "fd00:201:2::2"])
            let driver = try client.client()
            for address in server.addresses {
                let http = Endpoint(address, 8080)
                try Waiting.untilTrue("the server to answer at \(http)", within: .seconds(10)) {
                    (try? driver.get(http, path: "/ready").status) == 200
                }
                let capture = try WireCapture(namespace: client.node.namespace, interface: LocalNode.uplink)
                let answer = try driver.get(http, path: "/marker-\(address.family)")
                let traffic = try capture.stop()
                #expect(answer.body.contains("client \(try client.address(address.family))"))
                #expect(traffic.occurrences(of: "marker-\(address.family)") >= 2)
                #expect(traffic.streams(toPort: 8080).allSatisfy { $0.fromStart && !$0.hasGap })
            }

            let echo = Endpoint(try server.address(.v4), 9000)
            try driver.open("kept", to: echo)
            #expect(try driver.exchange("kept", "there") == "there")
            #expect(try driver.exchange("kept", "and back") == "and back")
            #expect(throws: LocalClusterError.self) { try driver.open("none", to: Endpoint(echo.address, 9)) }
            #expect(throws: LocalClusterError.self) { try driver.exchange("none", "x") }

            try driver.startLoad(echo, perSecond: 200, for: .milliseconds(500))
            let report = try driver.awaitLoad(within: .seconds(20))
            #expect(report.samples.count == 100)
            #expect(report.count(.served) == 100)
        }
    }

    @Test func aNamespaceThatChangedIsSeenToHaveChanged() throws {
        try withCluster { cluster in
            try cluster.startPods()
            let pod = try cluster.pod("kube-system/client")
            // Held open, so that the program's own sockets do not change meanwhile.
            let driver = try pod.client()
            try driver.close("nothing")
            let before = try pod.kernelState()
            let unchanged = before.differences(to: try pod.kernelState())
            #expect(unchanged == [])
            try Command.run("nft", "add", "table", "inet", "x", in: pod.namespacePath)
            try Command.run("ip", "rule", "add", "fwmark", "7", "lookup", "7", in: pod.namespacePath)
            let after = before.differences(to: try pod.kernelState())
            #expect(after.contains { $0.hasPrefix("ruleset: ") && $0.contains("table inet x") })
            #expect(after.contains { $0.hasPrefix("rules -4: ") })
            #expect(after.map { $0.prefix(7) } == ["rules -", "ruleset"])
        }
    }

    @Test func checkAndDeleteFindWhatAddMade() throws {
        try withCluster { cluster in
            try cluster.startPods()
            let pod = try cluster.pod("kube-system/client")
            let network = try pod.node.containerNetwork(cluster.configuration.programs)
            try network.check(pod.container)
            try cluster.stop(pod)
            #expect(!cluster.layout.existingNamespaces().contains { $0.hasSuffix("p-kube-system-client") })
            #expect(throws: LocalClusterError.self) { try network.check(pod.container) }
            try network.delete(pod.container)
        }
    }

    @Test func withoutAnAgentAPodThatIsNotExemptDoesNotStart() throws {
        try withCluster { cluster in
            let manifest = PodManifest(namespace: "shop", name: "web", node: "n1", command: [])
            let error = #expect(throws: LocalClusterError.self) { try cluster.start(manifest) }
            #expect(error?.code == .attachment)
            #expect(error?.description.contains("apus-cni ADD of shop/web") == true)
            // "Try again later", in the words of the specification.
            #expect(error?.description.replacing(" ", with: "").contains(#""code":11"#) == true)
            // What bridge and host-local made was taken back: nothing holds the address.
            let held = try FileManager.default.contentsOfDirectory(atPath: "\(cluster.nodes[0].folder)/ipam/apus-n1")
            #expect(held.allSatisfy { !$0.hasPrefix("10.201.") })
        }
    }

    @Test func aRunWhoseOwnerDiedIsEndedAndNoOther() throws {
        try withCluster { living in
            let dead = try LocalCluster(.init(kind: .test, programs: TestMachine.programs()))
            try dead.source.put("pods.yaml", Self.pods)
            try dead.buildNetwork()
            try dead.startPods()
            let processes = dead.pods.compactMap { $0.process?.identity }
            #expect(processes.count == 2)
            // As after a crash: the record names an owner that is no more.
            var record = try #require(RunRecord.read(dead.layout))
            record.owner = ProcessIdentity(pid: record.owner.pid, startTime: record.owner.startTime - 1)
            try record.write(dead.layout)

            let ended = RunCleaner.cleanAbandoned(standing: false)
            let removed = try #require(ended.first { $0.run == dead.layout.run }).result.get()
            #expect(removed.processes == 2)
            #expect(removed.namespaces == 6)
            #expect(removed.folder)
            #expect(processes.allSatisfy { !$0.isAlive })
            #expect(dead.layout.existingNamespaces().isEmpty)
            #expect(living.layout.existingNamespaces().count == 4)
            #expect(try RunCleaner(dead.layout).clean().isNothing)
        }
    }

    @Test func clustersStandSideBySideWithTheSameAddresses() throws {
        try withCluster { first in
            try withCluster { second in
                try first.startPods()
                try second.startPods()
                for cluster in [first, second] {
                    let server = Endpoint(try cluster.pod("kube-system/server").address(.v4), 8080)
                    let driver = try cluster.pod("kube-system/client").client()
                    try Waiting.untilTrue("the server to answer", within: .seconds(10)) {
                        (try? driver.get(server, path: "/side").status) == 200
                    }
                }
            }
        }
    }

    @Test func aNamedNamespaceIsAsThoseThatIpMakes() throws {
        let name = "apus-test-\(getpid())"
        try NamedNamespace.make(name)
        #expect(try Command.run("ip", "netns", "list").contains(name))
        #expect(try Command.run("ip", "-n", name, "-brief", "link", "show").hasPrefix("lo"))
        #expect(throws: (any Error).self) { try NamedNamespace.make(name) }
        try NamedNamespace.remove(name)
        #expect(try !Command.run("ip", "netns", "list").contains(name))
        #expect(throws: (any Error).self) { try NamedNamespace.remove(name) }
    }
}
