import Foundation
import LinuxNetwork
import Testing

@testable import Redirection

@Suite("apus check", .serialized)
struct CheckCommandTests {
    @Test("each feature is tried, this kernel has them, and nothing of the tries is left")
    func node() async throws {
        let before = try await onThread { try Judge.ruleset(try NetworkNamespace.current()) }
        let check = try ApusProgram(["check", "--node"])
        #expect(check.status == 0, "\(check.output)\(check.errors)")
        for feature in NodeCheck.probe() where feature.isRequired {
            #expect(check.output.contains("ok\t\(feature.feature.name) (Linux \(feature.feature.minimumKernel), "))
        }
        #expect(!check.output.contains("to get it"))
        for line in [
            "ok\tnf_tables redirect (Linux 5.2, nftables): ", "ok\tpolicy rules (Linux 2.6.19, nftables and ebpf): ",
            "ok\teBPF classifiers with sk_assign (Linux 5.11, ebpf): ",
            "ok\tsealed sockets (Linux 5.11, nftables and ebpf): ",
            "ok\teBPF socket iterator with setsockopt (Linux 5.15, ebpf): ",
        ] {
            #expect(check.output.contains(line), "\(line) is not in \(check.output)")
        }
        #expect(try await onThread { try Judge.ruleset(try NetworkNamespace.current()) } == before)
    }

    @Test("what is missing is named, with how to get it, and the check fails")
    func missing() throws {
        // Without the right to change networks the kernel refuses what a kernel without the features does not have.
        let arguments = [
            "setpriv", "--bounding-set", "-net_admin", "\(try ApusProgram.folder())/apus", "check", "--node",
        ]
        let check = try ApusProgram(program: "/usr/bin/env", arguments)
        #expect(check.status == 1)
        #expect(check.output.contains("MISSING\tnf_tables redirect (Linux 5.2, nftables): "))
        #expect(check.output.contains("to get it: modprobe nft_redir, or a kernel with CONFIG_NF_TABLES"))
        #expect(check.output.contains("MISSING\ta captured connection"))

        let json = try ApusProgram(program: "/usr/bin/env", arguments + ["--json"])
        #expect(json.status == 1)
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: [[String: Any]]]
        let features = try #require(object?["features"])
        let redirect = try #require(features.first { $0["name"] as? String == "nf_tables redirect" })
        #expect(redirect["isPresent"] as? Bool == false)
        #expect(redirect["isRequired"] as? Bool == true)
        #expect((redirect["hint"] as? String)?.contains("CONFIG_NFT_REDIR") == true)
        #expect(redirect["neededBy"] as? [String] == ["nftables"])
        #expect(features.allSatisfy { ($0["neededBy"] as? [String])?.isEmpty == false })
        #expect(features.allSatisfy { ($0["minimumKernel"] as? String)?.isEmpty == false })
    }

    private static let mesh = """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: web, namespace: shop}
        spec:
          nodeName: n1
          initContainers:
          - name: setup
            securityContext: {capabilities: {add: [NET_ADMIN], drop: [ALL]}}
          containers:
          - name: app
            securityContext: {capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false, runAsUser: 1000}
          - name: side
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: tools, namespace: shop}
        spec:
          nodeName: n2
          containers:
          - {name: app, securityContext: {privileged: true}}
          ephemeralContainers:
          - {name: debugger, securityContext: {capabilities: {add: [SYS_PTRACE, CAP_NET_RAW]}}}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: outside, namespace: shop, labels: {istio.io/dataplane-mode: none}}
        spec: {nodeName: n1, containers: [{name: app, securityContext: {privileged: true}}]}
        """

    /// Two folders of a test's own.
    private static func folders<Value>(_ text: String, _ body: (String, String) throws -> Value) throws -> Value {
        let root = FileManager.default.temporaryDirectory.appending(path: "apus-check-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        for name in ["source", "status"] {
            let folder = root.appending(path: name)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
        try Data(text.utf8).write(to: root.appending(path: "source/mesh.yaml"))
        return try body(root.appending(path: "source").path, root.appending(path: "status").path)
    }

    @Test("containers of the mesh that may set the mark are listed, with why")
    func pods() throws {
        try Self.folders(Self.mesh) { source, status in
            let all = try ApusProgram(["check", "--source", source, "--status", status])
            #expect(all.status == 0, "\(all.errors)")
            let lines = all.output.split(separator: "\n").map { $0.prefix { $0 != ":" } }
            #expect(
                lines == [
                    "shop/tools, container app", "shop/tools, container debugger", "shop/web, container setup",
                    "shop/web, container side",
                ])
            #expect(all.output.contains("container app: is privileged"))
            #expect(all.output.contains("container debugger: has NET_RAW"))
            #expect(all.output.contains("container setup: has NET_ADMIN"))
            #expect(all.output.contains("container side: may have NET_RAW, a default of containerd and Docker"))

            let one = try ApusProgram(["check", "--source", source, "--status", status, "--node", "n1", "--json"])
            let object = try JSONSerialization.jsonObject(with: Data(one.output.utf8)) as? [String: [[String: Any]]]
            let containers = try #require(object?["containers"])
            #expect(containers.map { $0["container"] as? String } == ["setup", "side"])
            #expect(containers.map { $0["powers"] as? [String] } == [["NET_ADMIN"], ["NET_RAW by default"]])
        }
    }

    @Test("a wrong object is named and fails the check")
    func wrongObject() throws {
        let text = Self.mesh.replacing("privileged: true", with: "privileged: maybe")
        try Self.folders(text) { source, status in
            let check = try ApusProgram(["check", "--source", source, "--status", status])
            #expect(check.status == 1)
            #expect(check.errors.contains("securityContext.privileged: expected true or false"))
        }
    }

    @Test(
        "what is to be checked must be said",
        arguments: [
            ([], "nothing to check"), (["--node", "n1"], "Give --source and --status"),
            (["--status", "/tmp"], "nothing to check"), (["--node", "--source", "/tmp"], "needs the name of a node"),
        ])
    func arguments(arguments: [String], message: String) throws {
        let refused = try ApusProgram(["check"] + arguments)
        #expect(refused.status == 64)
        #expect(refused.errors.contains(message))
    }
}
