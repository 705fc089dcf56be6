import CNI
import Foundation
import Glibc
import Logging
import Observability
import Synchronization
import TestSupport
import Testing

@testable import NodeAgent

/// Folders as a node has them, with an installer that can be run in them.
private final class Node: Sendable {
    static let calico = """
        {"name": "k8s-pod-network", "x-first": {"z": 1, "a": [1.50, null]}, "cniVersion": "1.0.0",
         "plugins": [{"type": "calico", "mtu": 1440, "foreign": "kept"}, {"type": "portmap", "snat": true}], "last": 7}
        """
    static let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    let folder: TemporaryFolder
    let registry = MetricsRegistry()
    var conf: String { folder.path + "/net.d" }
    var bin: String { folder.path + "/bin" }
    private let source: String

    init() throws {
        folder = try TemporaryFolder()
        source = folder.path + "/apus-cni"
        try AtomicFile.write(Array("the plugin".utf8), to: source, mode: 0o755)
        try AtomicFile.makeFolder(folder.path + "/net.d", mode: 0o755)
    }

    func configuration(
        _ mode: NodePlatform.Mode = .owned, _ change: (inout InstallerConfiguration) -> Void = { _ in }
    ) -> InstallerConfiguration {
        var result = InstallerConfiguration(
            NodePlatform(name: "test", configurationFolder: conf, pluginFolder: bin, mode: mode),
            pluginSource: source, agentSocket: "/run/apus/cni.sock", exemptNamespaces: ["kube-system"])
        result.attachmentCache = folder.path + "/results"
        result.settle = .milliseconds(1)
        change(&result)
        return result
    }

    func put(_ name: String, _ text: String, mode: mode_t = 0o644) throws {
        try AtomicFile.write(Array(text.utf8), to: "\(conf)/\(name)", mode: mode)
    }

    func text(_ name: String) -> String? {
        guard let bytes = try? AtomicFile.read("\(conf)/\(name)") else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    func list(_ name: String) -> NetworkList? { text(name).flatMap { try? NetworkList(Array($0.utf8)) } }

    func mode(_ path: String) -> mode_t {
        var info = stat()
        return stat(path, &info) == 0 ? info.st_mode & 0o7777 : 0
    }

    /// One look and, if it asks for it, the change.
    func once(_ mode: NodePlatform.Mode = .owned) throws -> InstallStep.Finding {
        let step = InstallStep(configuration(mode))
        let finding = try step.look()
        if case .needs(let change) = finding { try step.make(change) }
        return finding
    }

    /// Runs an installer beside `body`.
    func run(
        _ mode: NodePlatform.Mode = .owned, _ change: (inout InstallerConfiguration) -> Void = { _ in },
        _ body: (Mutexed<Int>) async throws -> Void
    ) async throws {
        let installer = try CNIInstaller(configuration(mode, change), metrics: registry, log: Self.quiet)
        let ready = Mutexed(0)
        let task = Task { await installer.run { ready.value.withLock { $0 += 1 } } }
        do { try await body(ready) } catch {
            task.cancel()
            await task.value
            throw error
        }
        task.cancel()
        await task.value
    }

    func figure(_ line: String) -> Bool { registry.exposition().contains(line) }
}

private final class Mutexed<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
    var now: Value { value.withLock { $0 } }
}

@Suite("CNI installation")
struct InstallerTests {
    private static let entry =
        #"{"type":"apus-cni","agentSocket":"/run/apus/cni.sock","exemptNamespaces":["kube-system"]}"#

    @Test("the owned list is the primary's, word for word and in its order, with the entry at its end")
    func owned() throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico, mode: 0o600)
        guard case .needs(let change) = try node.once() else { throw AgentError(.file, "no change") }
        #expect(change.name == "02-apus.conflist")
        let own = try #require(node.list("02-apus.conflist"))
        let expected = #"""
            {"name":"k8s-pod-network","x-first":{"z":1,"a":[1.50,null]},"cniVersion":"1.0.0","plugins":[{"type":"calico","mtu":1440,"foreign":"kept"},{"type":"portmap","snat":true},
            """# + Self.entry + #"],"last":7}"#
        #expect(String(decoding: own.document.bytes, as: UTF8.self) == expected)
        #expect(node.mode("\(node.conf)/02-apus.conflist") == 0o600)
        #expect(node.text("10-calico.conflist") == Node.calico)
        #expect(try node.once() == .inPlace("02-apus.conflist", warnings: []))
        #expect(try FileList.names(in: node.conf) == ["02-apus.conflist", "10-calico.conflist"])
    }

    @Test("an entry that was changed, a plugin that is missing, a list that was emptied: each is put back")
    func contents() throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico)
        _ = try node.once()
        let good = try #require(node.text("02-apus.conflist"))
        let harms = [
            good.replacing("/run/apus/cni.sock", with: "/run/other.sock"),
            good.replacing("kube-system", with: "shop"), good.replacing("portmap", with: "bandwidth"),
            good.replacing("1440", with: "1500"), #"{"cniVersion": "1.0.0", "name": "k8s-pod-network"}"#,
        ]
        for harm in harms {
            #expect(harm != good)
            try node.put("02-apus.conflist", harm)
            // What cannot be read may be half written; that it is old says that it is not.
            var old = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)]
            utimensat(AT_FDCWD, "\(node.conf)/02-apus.conflist", &old, 0)
            guard case .needs = try node.once() else {
                Issue.record("not seen: \(harm)")
                continue
            }
            #expect(node.text("02-apus.conflist") == good)
        }
    }

    @Test("a primary that sorts first gets a list that sorts before it, and the older one goes")
    func sorting() throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico)
        _ = try node.once()
        try node.put("01-other.conf", #"{"name": "other", "cniVersion": "0.4.0", "type": "macvlan"}"#)
        _ = try node.once()
        #expect(
            try FileList.names(in: node.conf) == ["00-apus.conflist", "01-other.conf", "10-calico.conflist"])
        #expect(node.list("00-apus.conflist")?.document["name"] == .string("other"))
        try node.put("00-aaa.conflist", Node.calico)
        #expect(throws: AgentError.self) { try node.once() }
    }

    @Test("a version that the plugin does not speak is refused with its name")
    func version() throws {
        let node = try Node()
        try node.put("10-x.conflist", #"{"name": "x", "cniVersion": "0.2.0", "plugins": [{"type": "bridge"}]}"#)
        let error = #expect(throws: AgentError.self) { try node.once() }
        #expect(error?.message.contains("10-x.conflist") == true)
        #expect(error?.message.contains("0.2.0") == true)
        #expect(node.text("02-apus.conflist") == nil)
    }

    @Test("a primary that is being written is waited for; one that stays broken is passed over with a warning")
    func halfWritten() throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico)
        _ = try node.once()
        try node.put("01-broken.conflist", #"{"name": "#)
        #expect(try node.once() == .unsettled)
        var old = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)]
        utimensat(AT_FDCWD, "\(node.conf)/01-broken.conflist", &old, 0)
        guard case .inPlace(_, let warnings) = try node.once() else { throw AgentError(.file, "not in place") }
        #expect(warnings.count == 1 && warnings[0].hasPrefix("01-broken.conflist sorts before"))
    }

    @Test("without a primary there is nothing to join; a list from before stays in force")
    func noPrimary() throws {
        let node = try Node()
        #expect(try node.once() == .waitingForPrimary)
        try node.put("10-calico.conflist", Node.calico)
        _ = try node.once()
        unlink("\(node.conf)/10-calico.conflist")
        guard case .inPlace("02-apus.conflist", let warnings) = try node.once() else {
            throw AgentError(.file, "not in place")
        }
        #expect(warnings.count == 1)
    }

    @Test("chained: the entry is in the primary's own list, whose mode and other words stay; others may follow it")
    func chained() throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico, mode: 0o640)
        _ = try node.once(.chained)
        let list = try #require(node.list("10-calico.conflist"))
        #expect(list.plugins.count == 3)
        #expect(list.document["last"] == .number(JSONNumber(7)))
        #expect(node.mode("\(node.conf)/10-calico.conflist") == 0o640)
        #expect(try node.once(.chained) == .inPlace("10-calico.conflist", warnings: []))
        var longer = list
        longer.plugins.append(.object(JSONObject([.init("type", .string("bandwidth"))])))
        try node.put("10-calico.conflist", String(decoding: longer.bytes, as: UTF8.self))
        #expect(try node.once(.chained) == .inPlace("10-calico.conflist", warnings: []))
        #expect(ChainEntry.removed(from: list) == (try NetworkList(Array(Node.calico.utf8))))
    }

    @Test("chained: a single configuration becomes a list under the same network name")
    func single() throws {
        let node = try Node()
        try node.put("10-net.conf", #"{"name": "lan", "type": "bridge", "bridge": "cni0"}"#)
        _ = try node.once(.chained)
        #expect(try FileList.names(in: node.conf) == ["10-net.conflist"])
        let list = try #require(node.list("10-net.conflist"))
        #expect(list.document["name"] == .string("lan"))
        #expect(list.document["cniVersion"] == .string("0.3.1"))
        #expect(list.plugins.count == 2)
        // libcni reads it as it reads any list.
        #expect(try ConfigurationList(list.bytes).type(ofPlugin: 1) == "apus-cni")
    }

    @Test("multus: a configuration of its own that names nothing else")
    func multus() throws {
        let node = try Node()
        _ = try node.once(.multus)
        #expect(node.list("apus-cni.conf")?.plugins.count == 1)
        #expect(try node.once(.multus) == .inPlace("apus-cni.conf", warnings: []))
    }

    @Test("the platform is told from its folders")
    func platforms() throws {
        let cases: [([String], String, String, String, NodePlatform.Mode)] = [
            ([], "standard", "/etc/cni/net.d", "/opt/cni/bin", .owned),
            (["/home/kubernetes/bin"], "GKE", "/etc/cni/net.d", "/home/kubernetes/bin", .owned),
            (
                ["/var/lib/rancher/k3s/agent/etc/cni/net.d", "/var/lib/rancher/k3s/data/cni"], "k3s",
                "/var/lib/rancher/k3s/agent/etc/cni/net.d", "/var/lib/rancher/k3s/data/cni", .owned
            ),
            (
                ["/var/lib/rancher/k3s/agent/etc/cni/net.d"], "k3s", "/var/lib/rancher/k3s/agent/etc/cni/net.d",
                "/var/lib/rancher/k3s/data/current/bin", .owned
            ),
            (
                ["/var/snap/microk8s/current/args/cni-network"], "MicroK8s",
                "/var/snap/microk8s/current/args/cni-network", "/var/snap/microk8s/current/opt/cni/bin", .owned
            ),
            (
                ["/etc/cni/multus/net.d", "/var/lib/cni/bin"], "OpenShift", "/etc/cni/multus/net.d", "/var/lib/cni/bin",
                .multus
            ),
        ]
        for (folders, name, conf, bin, mode) in cases {
            let root = try TemporaryFolder()
            for folder in folders { try AtomicFile.makeFolder(root.path + folder, mode: 0o755) }
            let found = NodePlatform.detect(root: root.path)
            #expect(found.name == name)
            #expect(found.configurationFolder == root.path + conf)
            #expect(found.pluginFolder == root.path + bin)
            #expect(found.mode == mode)
        }
    }
}

@Suite("CNI installation, running")
struct InstallerRunTests {
    @Test("it waits for the primary with the plugin already there, then follows it; all stays when it ends")
    func life() async throws {
        let node = try Node()
        try await node.run { ready in
            try await eventually("the plugin is there") { access("\(node.bin)/apus-cni", X_OK) == 0 }
            #expect(ready.now == 0)
            try node.put("10-calico.conflist", Node.calico)
            try await eventually("ready") { ready.now == 1 }
            #expect(node.list("02-apus.conflist")?.plugins.count == 3)
            #expect(node.figure("apus_agent_installer_in_place 1"))

            try node.put("10-calico.conflist", Node.calico.replacing("1440", with: "9000"))
            try await eventually("the primary is followed") { node.text("02-apus.conflist")?.contains("9000") == true }
            unlink("\(node.conf)/02-apus.conflist")
            try await eventually("the list is back") { node.list("02-apus.conflist")?.plugins.count == 3 }
            try AtomicFile.write(Array("another".utf8), to: "\(node.bin)/apus-cni", mode: 0o755)
            try await eventually("the plugin is back") {
                try AtomicFile.read("\(node.bin)/apus-cni") == Array("the plugin".utf8)
            }
            #expect(ready.now == 1)
        }
        #expect(node.list("02-apus.conflist") != nil)
        #expect(access("\(node.bin)/apus-cni", X_OK) == 0)
        #expect(try FileList.names(in: node.conf) == ["02-apus.conflist", "10-calico.conflist"])
        #expect(try FileList.names(in: node.bin) == ["apus-cni"])
    }

    @Test("a writer that insists is met a few times, then reported and left alone for a while")
    func conflict() async throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico)
        try await node.run(.owned, { $0.rewriteLimit = 3 }) { _ in
            var removals = 0
            try await eventually("a conflict") {
                if unlink("\(node.conf)/02-apus.conflist") == 0 { removals += 1 }
                return node.figure(#"apus_agent_installer_conflicts_total{file="list"} 1"#)
            }
            #expect(removals == 3)
            #expect(node.figure("apus_agent_installer_in_place 0"))
        }
        #expect(node.text("02-apus.conflist") == nil)
    }

    @Test("what cannot be written is tried again")
    func failure() async throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico)
        // A file stands where the folder of plugins should be.
        try AtomicFile.write([1], to: node.bin, mode: 0o644)
        try await node.run { ready in
            try await eventually("a failure is counted") {
                node.registry.exposition().split(separator: "\n").contains {
                    $0.hasPrefix("apus_agent_installer_failures_total ") && !$0.hasSuffix(" 0")
                }
            }
            #expect(ready.now == 0)
            // No list that names a plugin which is not there.
            #expect(node.text("02-apus.conflist") == nil)
            unlink(node.bin)
            try await eventually("ready") { ready.now == 1 }
        }
    }
}

@Suite("CNI installation, the budget of rewrites")
struct RewriteBudgetTests {
    @Test("so many within the window, then a truce that grows, with one write after each, until it is calm")
    func truces() {
        let start = ContinuousClock.now
        func at(_ seconds: Int) -> ContinuousClock.Instant { start + .seconds(seconds) }
        var budget = RewriteBudget(limit: 2, window: .seconds(60), truce: .seconds(60), longestTruce: .seconds(100))
        #expect(budget.ask(at(0)) == .go)
        #expect(budget.ask(at(1)) == .go)
        #expect(budget.ask(at(2)) == .conflict(until: at(62)))
        #expect(budget.ask(at(30)) == .wait(until: at(62)))
        #expect(budget.ask(at(62)) == .go)
        #expect(budget.ask(at(63)) == .conflict(until: at(163)))
        #expect(budget.ask(at(163)) == .go)
        #expect(budget.ask(at(300)) == .go)
        #expect(budget.ask(at(301)) == .go)
        #expect(budget.ask(at(302)) == .conflict(until: at(362)))
    }
}

@Suite("CNI installation, taken out")
struct UninstallerTests {
    @Test("the configuration goes and the plugin with it; again is no error")
    func all() async throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico)
        try await node.run { ready in try await eventually("ready") { ready.now == 1 } }
        let uninstaller = CNIUninstaller(node.configuration())
        let report = try uninstaller.run()
        #expect(report.changed == ["\(node.conf)/02-apus.conflist", "\(node.bin)/apus-cni"])
        #expect(report.pluginKept == nil)
        #expect(node.text("10-calico.conflist") == Node.calico)
        #expect(try FileList.names(in: node.bin) == [])
        #expect(try uninstaller.run() == CNIUninstaller.Report())
    }

    @Test("our entry goes out of a list of others'; the plugin stays while a pod was attached with it")
    func attached() throws {
        let node = try Node()
        try node.put("10-calico.conflist", Node.calico, mode: 0o640)
        _ = try node.once(.chained)
        try AtomicFile.makeFolder(node.bin, mode: 0o755)
        try AtomicFile.write([1], to: "\(node.bin)/apus-cni", mode: 0o755)
        let attachedWith = try #require(node.text("10-calico.conflist"))
        let results = node.configuration().attachmentCache
        try AtomicFile.makeFolder(results, mode: 0o700)
        func remember(_ list: String) throws {
            let text = Data(list.utf8).base64EncodedString()
            let entry = #"{"kind":"cniCacheV1","containerId":"c1","config":"\#(text)","ifName":"eth0"}"#
            try AtomicFile.write(Array(entry.utf8), to: "\(results)/k8s-pod-network-c1-eth0", mode: 0o600)
        }
        try remember(attachedWith)
        let uninstaller = CNIUninstaller(node.configuration(.chained))
        let report = try uninstaller.run()
        #expect(report.changed == ["\(node.conf)/10-calico.conflist"])
        #expect(report.pluginKept?.hasPrefix("1 running pods") == true)
        #expect(node.list("10-calico.conflist") == (try NetworkList(Array(Node.calico.utf8))))
        #expect(node.mode("\(node.conf)/10-calico.conflist") == 0o640)
        #expect(access("\(node.bin)/apus-cni", X_OK) == 0)
        // On doubt it stays.
        try AtomicFile.write(Array("{".utf8), to: "\(results)/k8s-pod-network-c1-eth0", mode: 0o600)
        #expect(try uninstaller.run().pluginKept?.contains("cannot be read") == true)
        // Pods of others do not need it.
        try remember(Node.calico)
        #expect(try uninstaller.run() == CNIUninstaller.Report(changed: ["\(node.bin)/apus-cni"], pluginKept: nil))
    }
}
