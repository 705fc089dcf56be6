import Foundation
import Kubernetes
import TestAPIServer
import Testing

/// The chart's objects given to an API server by `kubectl`, as a user gives them.
@Suite("The chart on an API server")
struct DryRunTests {
    /// A server that knows the kinds that are not Kubernetes's own, and a file for kubectl.
    private struct Target {
        let server: TestAPIServer
        let folder: URL

        init() async throws {
            server = try await TestAPIServer.start()
            server.perform("POST", "/api/v1/namespaces", ["metadata": ["name": "istio-system"]])
            for (group, version, plural, kind) in [
                ("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor"),
                ("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule"),
                ("k8s.cni.cncf.io", "v1", "network-attachment-definitions", "NetworkAttachmentDefinition"),
            ] {
                let schema: JSON = [
                    "openAPIV3Schema": ["type": "object", "x-kubernetes-preserve-unknown-fields": true]
                ]
                let made = server.perform(
                    "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                    [
                        "metadata": ["name": .string("\(plural).\(group)")],
                        "spec": [
                            "group": .string(group), "scope": "Namespaced",
                            "names": ["plural": .string(plural), "kind": .string(kind)],
                            "versions": [
                                ["name": .string(version), "served": true, "storage": true, "schema": schema]
                            ],
                        ],
                    ])
                #expect(made.code == 201)
            }
            folder = FileManager.default.temporaryDirectory.appending(path: "apus-dry-run-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data(server.kubeconfig().utf8).write(to: folder.appending(path: "config"))
        }

        func apply(_ objects: [Any], _ words: [String]) throws -> Chart.Run {
            let file = folder.appending(path: "objects.json")
            let list: [String: Any] = ["apiVersion": "v1", "kind": "List", "items": objects]
            try JSONSerialization.data(withJSONObject: list).write(to: file)
            return try Chart.run(
                try Chart.beside("kubectl"),
                [
                    "--kubeconfig", folder.appending(path: "config").path, "--cache-dir",
                    folder.appending(path: "cache").path, "apply", "-f", file.path,
                ] + words)
        }
    }

    @Test(
        "every object is taken by kubectl apply --dry-run=server, by the client's apply and by the server's",
        arguments: ["{}", Chart.everything(on: "standard"), Chart.everything(on: "openshift")])
    func dryRun(values: String) async throws {
        let target = try await Target()
        defer { try? FileManager.default.removeItem(at: target.folder) }  // In the machine's temporary files otherwise.
        let objects = try Chart.render(values)
        let before = target.server.version
        for way in [[], ["--server-side"]] {
            let run = try target.apply(objects.compactMap(\.value), way + ["--dry-run=server"])
            #expect(run.code == 0, "\(run.errors)")
            let lines = run.text.split(separator: "\n")
            #expect(lines.count == objects.count && lines.allSatisfy { $0.hasSuffix("(server dry run)") })
        }
        #expect(target.server.version == before)
    }

    @Test("applied for good and again nothing changes, and the next values change what they should")
    func again() async throws {
        let target = try await Target()
        defer { try? FileManager.default.removeItem(at: target.folder) }  // In the machine's temporary files otherwise.
        let objects = try Chart.render()
        for way in [[], ["--server-side"]] {
            #expect(try target.apply(objects.compactMap(\.value), way).code == 0)
            let version = target.server.version
            let again = try target.apply(objects.compactMap(\.value), way)
            #expect(again.code == 0, "\(again.errors)")
            if way.isEmpty {
                // A budget's selector is replaced by every patch of kubectl, so it says "configured" each time.
                let changed = again.text.split(separator: "\n").filter { !$0.hasSuffix(" unchanged") }
                #expect(changed.allSatisfy { $0.hasPrefix("poddisruptionbudget.policy/") }, "\(again.text)")
            }
            #expect(target.server.version == version)
        }
        let daemonSet = "/apis/apps/v1/namespaces/istio-system/daemonsets/ztunnel"
        let generation = generation(target.server, daemonSet)
        let changed = try target.apply(
            try Chart.render(#"{"agent":{"failClosed":true}}"#).compactMap(\.value), ["--server-side"])
        #expect(changed.code == 0, "\(changed.errors)")
        #expect(self.generation(target.server, daemonSet) == generation + 1)
    }

    private func generation(_ server: TestAPIServer, _ path: String) -> Int {
        let value = server.perform("GET", path).value
        guard case .object(let object) = value, case .object(let metadata)? = object["metadata"],
            case .integer(let generation)? = metadata["generation"]
        else { return 0 }
        return generation
    }
}
