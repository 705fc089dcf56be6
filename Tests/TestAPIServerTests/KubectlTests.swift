import Foundation
import Kubernetes
import TestSupport
import Testing

@testable import TestAPIServer

/// kubectl as its own project makes it, from PyPI.
@Suite("kubectl works with the test API server")
struct KubectlTests {
    private let shop = "/api/v1/namespaces/shop"

    @Test("get prints tables, wide ones, labels, names, YAML and JSON")
    func get() async throws {
        let kubectl = try await Kubectl()
        kubectl.createPod("web", labels: ["app": "web"])
        kubectl.createPod("db", labels: ["app": "db"])
        let table = try await kubectl("get", "pods", "-n", "shop").lines
        #expect(table.count == 3)
        #expect(table[0].split(separator: " ") == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"])
        #expect(table[1].split(separator: " ").prefix(4) == ["db", "0/1", "Pending", "0"])
        let wide = try await kubectl("get", "pods", "-A", "-o", "wide", "--show-labels", "-l", "app=web").lines
        #expect(wide.count == 2 && wide[0].contains("NODE") && wide[1].contains("n1") && wide[1].contains("app=web"))
        #expect(try await kubectl("get", "po", "-n", "shop", "-o", "name").lines == ["pod/db", "pod/web"])
        let text = try await kubectl("get", "pod", "web", "-n", "shop", "-o", "json").output
        var read = try json(text)
        var stored = kubectl.stored("\(shop)/pods/web")
        read.set(nil, at: "metadata", "managedFields")
        stored.set(nil, at: "metadata", "managedFields")
        #expect(read == stored)
        let yaml = try await kubectl("get", "pod", "web", "-n", "shop", "-o", "yaml", "--show-managed-fields").output
        #expect(try JSON(yaml: Array(yaml.utf8)) == kubectl.stored("\(shop)/pods/web"))
        let named = try await kubectl("get", "pods", "-n", "shop", "--field-selector", "metadata.name=db").lines
        #expect(named.count == 2)
        #expect(try await kubectl("get", "ns").lines.contains { $0.hasPrefix("shop") && $0.contains("Active") })
        #expect(try await kubectl("get", "all,cm", "-n", "shop").output.contains("configmap/kube-root-ca.crt"))
        let missing = try await kubectl.run("get", "pod", "none", "-n", "shop")
        #expect(missing.code == 1)
        #expect(missing.errors.contains(#"Error from server (NotFound): pods "none" not found"#))
        #expect(try await kubectl("describe", "pod", "web", "-n", "shop").output.contains("Node:"))
    }

    @Test("it finds its way by discovery: kinds, short names, versions, who one is and what one may")
    func discovery() async throws {
        let kubectl = try await Kubectl(user: .adminCertificate)
        let kinds = try await kubectl("api-resources").output
        #expect(kinds.contains("peerauthentications") && kinds.contains("gateway.networking.k8s.io/v1"))
        #expect(try await kubectl("api-versions").lines.contains("networking.istio.io/v1alpha3"))
        #expect(try await kubectl("version").output.contains("Server Version: v1.37"))
        #expect(try await kubectl("auth", "whoami").output.contains("test-admin"))
        #expect(try await kubectl("auth", "can-i", "delete", "nodes").output.contains("yes"))
        #expect(try await kubectl("get", "pa,se", "-A").errors.contains("No resources found"))
        #expect(try await kubectl.run("get", "birds").errors.contains(#"doesn't have a resource type "birds""#))
        let token = try await kubectl("create", "token", "default", "-n", "shop", "--audience", "istio-ca").output
        #expect(token.split(separator: ".").count == 3)
    }

    @Test("label and annotate: add, refuse to overwrite, overwrite, take away")
    func label() async throws {
        let kubectl = try await Kubectl()
        let label = "istio.io/dataplane-mode"
        #expect(
            try await kubectl("label", "namespace", "shop", "\(label)=ambient").output == "namespace/shop labeled\n")
        #expect(kubectl.stored("/api/v1/namespaces/shop").labels[label] == "ambient")
        #expect(try await kubectl("get", "ns", "-l", "\(label)=ambient", "-o", "name").lines == ["namespace/shop"])
        let refused = try await kubectl.run("label", "namespace", "shop", "\(label)=none")
        #expect(refused.code == 1 && refused.errors.contains("--overwrite"))
        _ = try await kubectl("label", "namespace", "shop", "\(label)=none", "--overwrite")
        #expect(kubectl.stored("/api/v1/namespaces/shop").labels[label] == "none")
        #expect(try await kubectl("label", "ns", "shop", "\(label)-").output == "namespace/shop unlabeled\n")
        #expect(kubectl.stored("/api/v1/namespaces/shop").labels[label] == nil)
        for name in ["web", "db"] { kubectl.createPod(name) }
        _ = try await kubectl("label", "pods", "--all", "-n", "shop", "tier=x")
        #expect(try await kubectl("get", "pods", "-n", "shop", "-l", "tier in (x)", "-o", "name").lines.count == 2)
        _ = try await kubectl("annotate", "pod", "web", "-n", "shop", "note=two words")
        #expect(kubectl.stored("\(shop)/pods/web").annotations == ["note": "two words"])
        _ = try await kubectl("annotate", "pod", "web", "-n", "shop", "note-")
        #expect(kubectl.stored("\(shop)/pods/web").annotations == [:])
        let bad = try await kubectl.run("label", "pod", "web", "-n", "shop", "a=b/c")
        #expect(bad.code == 1)
        // A kind of strangers goes by a merge patch.
        kubectl.server.perform(
            "POST", "/apis/security.istio.io/v1/namespaces/shop/peerauthentications", ["metadata": ["name": "pa"]])
        _ = try await kubectl("label", "peerauthentication", "pa", "-n", "shop", "x=y")
        #expect(
            kubectl.stored("/apis/security.istio.io/v1/namespaces/shop/peerauthentications/pa").labels == ["x": "y"])
    }

    private func deployment(_ image: String, label: String = "", env: String = "") -> String {
        """
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web, namespace: shop, labels: {app: web\(label)}}
        spec:
          selector: {matchLabels: {app: web}}
          template:
            metadata: {labels: {app: web}}
            spec:
              containers:
                - name: main
                  image: \(image)
                  ports: [{containerPort: 80}]
                  env: [\(env)]
                - name: side
                  image: side:1
        """
    }
    private let deploymentPath = "/apis/apps/v1/namespaces/shop/deployments/web"

    @Test(
        "apply by the client: created, unchanged, configured; what was taken out of the file goes, what others added stays"
    )
    func apply() async throws {
        let kubectl = try await Kubectl()
        func apply(_ text: String) async throws -> Tools.Run {
            try await kubectl("apply", "-f", try kubectl.write("d.yaml", text))
        }
        let first = try await apply(deployment("i:1", label: ", old: \"1\"", env: "{name: A, value: a}"))
        #expect(first.output == "deployment.apps/web created\n" && first.errors.isEmpty, "\(first.errors)")
        let same = try await apply(deployment("i:1", label: ", old: \"1\"", env: "{name: A, value: a}"))
        #expect(same.output == "deployment.apps/web unchanged\n")
        // Somebody else adds a variable and a label meanwhile.
        let other = kubectl.server.perform(
            "PATCH", deploymentPath,
            [
                "metadata": ["labels": ["theirs": "1"]],
                "spec": [
                    "template": ["spec": ["containers": [["name": "main", "env": [["name": "B", "value": "b"]]]]]]
                ],
            ], type: "application/strategic-merge-patch+json")
        #expect(other.code == 200)
        let changed = try await apply(deployment("i:2"))
        #expect(changed.output == "deployment.apps/web configured\n" && changed.errors.isEmpty, "\(changed.errors)")
        let stored = kubectl.stored(deploymentPath)
        #expect(stored.labels == ["app": "web", "theirs": "1"])
        let containers = stored.at("spec", "template", "spec", "containers")?.list ?? []
        #expect(containers.map { $0["image"] } == ["i:2", "side:1"])
        #expect(containers.first?["env"] == [["name": "B", "value": "b"]])
        #expect(stored.at("metadata", "generation")?.integer ?? 0 >= 3)
    }

    @Test("apply by the server: owners, conflicts, force, and the way there from the client's apply")
    func serverSide() async throws {
        let kubectl = try await Kubectl()
        let file = try kubectl.write("d.yaml", deployment("i:1", label: ", old: \"1\""))
        _ = try await kubectl("apply", "-f", file)
        // What the client's apply owned is taken over without a conflict.
        let over = try await kubectl("apply", "--server-side", "-f", file)
        #expect(over.output == "deployment.apps/web serverside-applied\n")
        let managers = kubectl.stored(deploymentPath).at("metadata", "managedFields")?.list ?? []
        #expect(managers.contains { $0["manager"] == "kubectl" && $0["operation"] == "Apply" })
        #expect(!managers.contains { $0["manager"] == "kubectl-client-side-apply" }, "\(managers)")
        try kubectl.write("d.yaml", deployment("i:2"))
        _ = try await kubectl("apply", "--server-side", "-f", file)
        #expect(kubectl.stored(deploymentPath).labels == ["app": "web"])
        try kubectl.write("d.yaml", deployment("i:3"))
        let conflict = try await kubectl.run("apply", "--server-side", "--field-manager", "other", "-f", file)
        #expect(conflict.code == 1)
        #expect(
            conflict.errors.contains(#"conflict with "kubectl": .spec.template.spec.containers[name="main"].image"#),
            "\(conflict.errors)")
        let image = {
            kubectl.stored(self.deploymentPath).at("spec", "template", "spec", "containers")?.list?.first?["image"]
        }
        #expect(image() == "i:2")
        _ = try await kubectl("apply", "--server-side", "--field-manager", "other", "--force-conflicts", "-f", file)
        #expect(image() == "i:3")
    }

    @Test("a dry run on the server says what would be, and changes nothing")
    func dryRun() async throws {
        let kubectl = try await Kubectl()
        let file = try kubectl.write("d.yaml", deployment("i:1"))
        let before = kubectl.server.version
        for way in [["apply"], ["apply", "--server-side"], ["create"]] {
            let run = try await kubectl.run(way + ["--dry-run=server", "-f", file])
            #expect(run.code == 0 && run.output.contains("(server dry run)"), "\(way): \(run.output)\(run.errors)")
        }
        #expect(kubectl.server.version == before)
        try kubectl.write(
            "d.yaml",
            deployment("i:1").replacing(
                "selector: {matchLabels: {app: web}}", with: "selector: {matchLabels: {app: db}}"))
        let bad = try await kubectl.run("apply", "--dry-run=server", "-f", file)
        #expect(bad.code == 1 && bad.errors.contains("`selector` does not match template `labels`"), "\(bad.errors)")
    }

    @Test("patch in its three types, of the status, and replace with a stale version")
    func patch() async throws {
        let kubectl = try await Kubectl()
        kubectl.createPod("web")
        func patch(_ type: String, _ text: String, _ more: String...) async throws -> Tools.Run {
            try await kubectl.run(["patch", "pod", "web", "-n", "shop", "--type", type, "-p", text] + more)
        }
        #expect(try await patch("strategic", #"{"spec":{"containers":[{"name":"main","image":"i:2"}]}}"#).code == 0)
        #expect(try await patch("merge", #"{"metadata":{"labels":{"a":"1"}}}"#).code == 0)
        #expect(try await patch("json", #"[{"op":"add","path":"/metadata/labels/b","value":"2"}]"#).code == 0)
        let status = try await patch(
            "merge", #"{"status":{"phase":"Running","podIP":"10.0.0.1"}}"#, "--subresource", "status")
        #expect(status.code == 0, "\(status.errors)")
        let stored = kubectl.stored("\(shop)/pods/web")
        #expect(stored.labels == ["a": "1", "b": "2"])
        #expect(stored.at("spec", "containers")?.list?.first?["image"] == "i:2")
        #expect(stored.at("status", "podIP") == "10.0.0.1")
        #expect(try await patch("json", #"[{"op":"test","path":"/metadata/labels/b","value":"3"}]"#).code == 1)
        var stale = stored
        stale.set("9", at: "metadata", "labels", "a")
        let file = try kubectl.write("p.json", stale.text)
        _ = try await kubectl("replace", "-f", file)
        let late = try await kubectl.run("replace", "-f", file)
        #expect(late.code == 1 && late.errors.contains("the object has been modified"), "\(late.errors)")
    }

    @Test("delete waits for the end, finalizers hold it up, a namespace takes all along")
    func delete() async throws {
        let kubectl = try await Kubectl()
        for name in ["web", "db"] { kubectl.createPod(name) }
        #expect(try await kubectl("delete", "pod", "web", "-n", "shop").output.contains(#"pod "web" deleted"#))
        kubectl.server.perform("POST", "\(shop)/configmaps", ["metadata": ["name": "held", "finalizers": ["a/b"]]])
        let stuck = try await kubectl.run("delete", "cm", "held", "-n", "shop", "--timeout", "1s")
        #expect(stuck.code == 1 && stuck.errors.contains("timed out"), "\(stuck.errors)")
        async let ending = kubectl.run("delete", "cm", "held", "-n", "shop", "--timeout", "20s")
        _ = try await kubectl(
            "patch", "cm", "held", "-n", "shop", "--type=merge", "-p", #"{"metadata":{"finalizers":null}}"#)
        // It may be gone before the second delete comes.
        let end = try await ending
        #expect(end.code == 0 || end.errors.contains("not found"), "\(end.errors)")
        _ = try await kubectl("delete", "namespace", "shop", "--timeout", "20s")
        #expect(kubectl.server.perform("GET", "\(shop)/pods/db").code == 404)
        #expect(try await kubectl("delete", "pod", "none", "-n", "default", "--ignore-not-found").code == 0)
    }

    @Test("get --watch tells each change as a row")
    func watch() async throws {
        let kubectl = try await Kubectl()
        kubectl.createPod("web")
        let (process, output) = try kubectl.start("get", "pods", "-n", "shop", "--watch", "--output-watch-events")
        defer { process.end() }
        try await eventually("the list") { try output().count >= 2 }
        kubectl.server.perform(
            "PATCH", "\(shop)/pods/web/status", ["status": ["phase": "Running"]], type: "application/merge-patch+json")
        kubectl.createPod("db")
        kubectl.server.perform("DELETE", "\(shop)/pods/web")
        try await eventually("the changes") { try output().count >= 5 }
        let rows = try output().map { $0.split(separator: " ").map(String.init) }
        #expect(rows[0] == ["EVENT", "NAME", "READY", "STATUS", "RESTARTS", "AGE"])
        #expect(
            rows.dropFirst().map { "\($0[0]) \($0[1]) \($0[3])" } == [
                "ADDED web Pending", "MODIFIED web Running", "ADDED db Pending", "DELETED web Running",
            ])
    }

    @Test("wait: for a condition, a value, and the end")
    func wait() async throws {
        let kubectl = try await Kubectl()
        kubectl.createPod("web")
        let ready = try kubectl.start("wait", "pod", "web", "-n", "shop", "--for=condition=Ready", "--timeout=20s")
        let phase = try kubectl.start(
            "wait", "pod", "web", "-n", "shop", "--for=jsonpath={.status.phase}=Running", "--timeout=20s")
        let gone = try kubectl.start("wait", "pod", "web", "-n", "shop", "--for=delete", "--timeout=20s")
        try await eventually("all three watch") { kubectl.server.watches >= 3 }
        kubectl.server.perform(
            "PATCH", "\(shop)/pods/web/status",
            ["status": ["phase": "Running", "conditions": [["type": "Ready", "status": "True"]]]],
            type: "application/strategic-merge-patch+json")
        for (process, output) in [ready, phase] {
            try await eventually("\(try output())") { !process.isRunning }
            #expect(process.status == 0)
            #expect(try output() == ["pod/web condition met"])
        }
        #expect(gone.process.isRunning)
        kubectl.server.perform("DELETE", "\(shop)/pods/web")
        try await eventually("the end") { !gone.process.isRunning }
        #expect(gone.process.status == 0)
    }

    @Test("a service account may do what its roles say")
    func roles() async throws {
        let kubectl = try await Kubectl { $0.enforcesRoles = true }
        let token = try #require(kubectl.server.token(namespace: "shop", account: "default"))
        try kubectl.write("config", kubectl.server.kubeconfig(.token(token)))
        let refused = try await kubectl.run("get", "pods", "-n", "shop")
        #expect(refused.code == 1)
        #expect(refused.errors.contains(#"User "system:serviceaccount:shop:default" cannot list resource "pods""#))
        try kubectl.write("config", kubectl.server.kubeconfig())
        _ = try await kubectl("create", "role", "reader", "-n", "shop", "--verb=get,list", "--resource=pods")
        _ = try await kubectl(
            "create", "rolebinding", "reader", "-n", "shop", "--role=reader", "--serviceaccount=shop:default")
        try kubectl.write("config", kubectl.server.kubeconfig(.token(token)))
        _ = try await kubectl("get", "pods", "-n", "shop")
        #expect(try await kubectl.run("get", "pods", "-A").code == 1)
        #expect(try await kubectl.run("auth", "can-i", "delete", "pods", "-n", "shop").output == "no\n")
        try kubectl.write("config", kubectl.server.kubeconfig(.token("rubbish")))
        #expect(try await kubectl.run("get", "pods").errors.contains("Unauthorized"))
    }
}

/// The official Python client, from PyPI.
@Suite("The Python client works with the test API server")
struct PythonClientTests {
    @Test("pages, watches, patches, conflicts, 410, apply, tokens")
    func all() async throws {
        var settings = TestAPIServer.Settings()
        settings.historyLimit = 100
        let server = try await TestAPIServer.start(settings)
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-python-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }  // In the machine's temporary files otherwise.
        let config = folder.appending(path: "config")
        try Data(server.kubeconfig(.adminCertificate).utf8).write(to: config)
        let script = Tools.repository.appending(path: "Tests/Peers/kube_client.py").path
        let run = try await Tools.run(try await Tools.program("python"), [script, config.path])
        #expect(run.code == 0, "\(run.errors)")
        #expect(
            run.lines == [
                "created", "listed", "watched", "ended", "conflict", "patched", "applied", "dry", "custom", "tokens",
                "expired", "deleted", "done",
            ], "\(run.errors)")
    }
}
