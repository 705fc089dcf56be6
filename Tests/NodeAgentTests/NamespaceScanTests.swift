import Addressing
import Foundation
import Glibc
import LinuxNetwork
import ObjectSource
import TestSupport
import Testing

@testable import NodeAgent

@Suite("Namespaces of running pods", .serialized)
struct NamespaceScanTests {
    private static let uid = "2f8e1c9a-0b7d-4e55-9c1f-aa00bb11cc22"

    private static func scan(
        _ addresses: String..., claimed: Set<NamespaceID> = [], hosts: Set<NamespaceID>? = nil, proc: String = "/proc"
    ) throws -> NamespaceScan.Result {
        let own = try NetworkNamespace.current().id
        var scan = NamespaceScan(hosts: hosts ?? [own], claimed: claimed)
        scan.proc = proc
        return try scan.run([.init(uid: uid, addresses: Set(addresses.compactMap { IPAddress($0)?.canonical }))])
    }

    @Test("a pod's namespace is found by a process of it, with the container's ID and a path that leads there")
    func found() throws {
        let pod = try FakePod()
        let process = try PodProcess(in: pod, uid: Self.uid, container: PodProcess.id("a"))
        let result = try Self.scan("10.1.1.1", pod.address)
        let found = try #require(result.found[Self.uid])
        #expect(found.namespace.id == pod.namespace.id)
        #expect(found.containerID == PodProcess.id("a"))
        #expect(found.path == "/proc/\(process.pid)/ns/net")
        #expect(try NetworkNamespace(path: found.path).id == pod.namespace.id)
        #expect(result.refusals.isEmpty)
    }

    @Test("the runtime's name for the namespace is preferred to a process that may end")
    func named() throws {
        let pod = try FakePod()
        let process = try PodProcess(in: pod, uid: Self.uid, container: PodProcess.id("a"))
        let folder = try TemporaryFolder()
        let name = folder.path + "/cni-1"
        // What `ip netns` and the runtimes do.
        #expect(close(open(name, O_CREAT | O_WRONLY, 0o600)) == 0)
        #expect(mount(pod.path, name, nil, UInt(MS_BIND), nil) == 0)
        defer { umount2(name, CInt(MNT_DETACH)) }
        var scan = NamespaceScan(hosts: [try NetworkNamespace.current().id], claimed: [])
        scan.namedFolders = [folder.path]
        let result = try scan.run([.init(uid: Self.uid, addresses: [try #require(IPAddress(pod.address))])])
        #expect(result.found[Self.uid]?.path == name)
        withExtendedLifetime(process) {}
    }

    @Test("of two namespaces that both have the pod's address the oldest process's counts")
    func oldest() throws {
        let first = try FakePod()
        let second = try FakePod()
        let older = try PodProcess(in: first, uid: Self.uid, container: PodProcess.id("a"))
        // The kernel counts starts in hundredths of a second.
        let start = try ProcessEntry(older.pid, proc: "/proc").startTime()
        var younger: PodProcess
        repeat {
            younger = try PodProcess(in: second, uid: Self.uid, container: PodProcess.id("b"))
        } while try ProcessEntry(younger.pid, proc: "/proc").startTime() == start
        let result = try Self.scan(first.address)
        #expect(result.found[Self.uid]?.namespace.id == first.namespace.id)
        #expect(result.found[Self.uid]?.containerID == PodProcess.id("a"))
        withExtendedLifetime(younger) {}
    }

    @Test("never the node's namespace, never one that is claimed, never one without the pod's address")
    func guards() throws {
        let pod = try FakePod()
        let process = try PodProcess(in: pod, uid: Self.uid, container: PodProcess.id("a"))
        let hosts = try Self.scan(pod.address, hosts: [pod.namespace.id])
        #expect(hosts.found.isEmpty)
        #expect(hosts.refusals[Self.uid]?.hasPrefix("no process of it") == true)
        let claimed = try Self.scan(pod.address, claimed: [pod.namespace.id])
        #expect(claimed.found.isEmpty)
        #expect(claimed.refusals[Self.uid]?.contains("in the namespace of another pod") == true)
        let foreign = try Self.scan("10.99.0.8")
        #expect(foreign.found.isEmpty)
        #expect(foreign.refusals[Self.uid]?.contains("has none of its addresses") == true)
        let early = try Self.scan()
        #expect(early.found.isEmpty)
        #expect(early.refusals[Self.uid] == "it has no address yet")
        withExtendedLifetime(process) {}
    }

    /// No kernel puts a process into cgroups of two pods unless two hierarchies are there, so this one is made up.
    @Test("a process whose cgroups contradict one another is nobody's, and the reason is told")
    func contradiction() throws {
        let pod = try FakePod()
        let proc = try TemporaryFolder()
        let folder = proc.path + "/77"
        try AtomicFile.makeFolder(folder + "/ns", mode: 0o755)
        #expect(symlink(pod.path, folder + "/ns/net") == 0)
        let path = "/kubepods/pod\(Self.uid)/"
        try AtomicFile.write(
            Array("2:pids:\(path)\(PodProcess.id("a"))\n0::\(path)\(PodProcess.id("b"))\n".utf8),
            to: folder + "/cgroup", mode: 0o644)
        let state = "77 (a ) b) S " + (0..<40).map(String.init).joined(separator: " ")
        try AtomicFile.write(Array(state.utf8), to: folder + "/stat", mode: 0o644)
        let result = try Self.scan(pod.address, proc: proc.path)
        #expect(result.found.isEmpty)
        #expect(result.refusals[Self.uid]?.hasPrefix("multiple container IDs found in cgroups") == true)
        #expect(try ProcessEntry(77, proc: proc.path).startTime() == 18)
        #expect(throws: AgentError.self) { try Self.scan(pod.address, proc: proc.path + "/77/ns/none") }
    }
}

@Suite("Pods that slipped through", .serialized)
struct SlippedThroughTests {
    private static let uid = "2f8e1c9a-0b7d-4e55-9c1f-aa00bb11cc22"
    private static let container = PodProcess.id("a")

    private static func put(_ source: FakeSource, _ pod: FakePod, addresses: [String]? = nil) {
        source.change {
            $0.namespaces["shop"] = Namespace("shop", labels: ["istio.io/dataplane-mode": "ambient"])
            $0.insert(
                .pod(
                    Pod(
                        metadata: ObjectMeta(name: "web", namespace: "shop", uid: uid),
                        spec: PodSpec(serviceAccountName: "cashier", nodeName: "n1"),
                        status: PodStatus(phase: .running, podIPs: addresses ?? [pod.address]))))
        }
    }

    @Test("a running pod that never had its ADD is taken in at the start, and a DEL ends it as any other")
    func takenIn() async throws {
        let source = FakeSource()
        let pod = try FakePod()
        let process = try PodProcess(in: pod, uid: Self.uid, container: Self.container)
        Self.put(source, pod)
        let fixture = try await AgentFixture(source: source) { $0.slipGrace = .milliseconds(10) }
        try await eventually("it is enabled") { fixture.annotator["web"] == "enabled" }
        #expect(try pod.drift().isEmpty)
        #expect(fixture.registry.exposition().contains("apus_agent_slipped_through_total 1"))
        #expect(fixture.registry.exposition().contains("apus_agent_pods_outside 0"))
        try await eventually("the events") {
            fixture.annotator.events.map(\.reason).sorted() == ["Enrolled", "StartedOutsideMesh"]
        }
        #expect(fixture.annotator.events.allSatisfy { $0.pod.uid == Self.uid })
        #expect(try fixture.records == [Self.container])

        // The next agent knows it, and takes nobody in twice.
        try await fixture.stop()
        let next = try await AgentFixture(folder: fixture.folder, source: source, keeperPods: fixture.keeper) {
            $0.slipGrace = .milliseconds(10)
        }
        #expect(await next.pod(Self.container)?.phase == .capturing)
        #expect(await next.call(.delete, Self.container, pod).code == 0)
        #expect(try !pod.hasCapture())
        #expect(next.annotator.events.isEmpty)
        source.change { $0.pods = [:] }
        try await next.stop()
        withExtendedLifetime(process) {}
    }

    @Test("one that cannot be found is pending, counted and told; it is taken in as soon as it can be")
    func notFound() async throws {
        let source = FakeSource()
        let pod = try FakePod()
        let process = try PodProcess(in: pod, uid: Self.uid, container: Self.container)
        Self.put(source, pod, addresses: ["10.99.0.99"])
        let fixture = try await AgentFixture(source: source) { $0.slipGrace = .milliseconds(10) }
        try await eventually("it is pending") { fixture.annotator["web"] == "pending" }
        #expect(fixture.registry.exposition().contains("apus_agent_pods_outside 1"))
        #expect(fixture.annotator.events.first?.message.contains("none of its addresses") == true)
        #expect(try !pod.hasCapture())
        Self.put(source, pod)
        try await eventually("it is enabled") { fixture.annotator["web"] == "enabled" }
        #expect(try pod.drift().isEmpty)
        try await fixture.stop()
        withExtendedLifetime(process) {}
    }

    @Test("one that goes without a DEL is forgotten when no process of it is left")
    func forgotten() async throws {
        let source = FakeSource()
        let pod = try FakePod()
        var process: PodProcess? = try PodProcess(in: pod, uid: Self.uid, container: Self.container)
        Self.put(source, pod)
        let fixture = try await AgentFixture(source: source) {
            $0.slipGrace = .milliseconds(10)
            $0.verifyInterval = .milliseconds(50)
        }
        try await eventually("it is enabled") { fixture.annotator["web"] == "enabled" }
        source.change { $0.pods = [:] }
        try await eventually("the agent has looked again") { fixture.journal.all.count > 0 }
        #expect(await fixture.pod(Self.container) != nil)
        withExtendedLifetime(process) {}
        process = nil
        try await eventually("it is forgotten") { await fixture.pod(Self.container) == nil }
        try await eventually("nothing of it is left") { try fixture.records == [] && !pod.hasCapture() }
        try await fixture.stop()
    }
}
