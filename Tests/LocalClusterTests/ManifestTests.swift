import Testing

@testable import LocalCluster

@Suite("Manifests and the source folder")
struct ManifestTests {
    @Test func podsAreFoundAmongOtherObjects() throws {
        let pods = try PodManifest.all(
            yaml: """
                apiVersion: v1
                kind: Namespace
                metadata: {name: shop}
                ---
                apiVersion: v1
                kind: Pod
                metadata:
                  name: web
                  namespace: shop
                  uid: 4d1c
                  labels: {app: web}
                spec:
                  nodeName: n2
                  serviceAccountName: web
                  containers:
                    - name: web
                      command: ["apus", "local"]
                      args: ["pod-server", "--http", "8080"]
                      env:
                        - {name: COLOUR, value: blue}
                        - {name: EMPTY}
                    - name: second
                      command: [sleep]
                ---
                apiVersion: v1
                kind: Pod
                metadata: {name: bare}
                spec:
                  containers:
                    - name: app
                """)
        #expect(
            pods == [
                PodManifest(
                    namespace: "shop", name: "web", uid: "4d1c", node: "n2",
                    command: ["apus", "local", "pod-server", "--http", "8080"],
                    environment: ["COLOUR": "blue", "EMPTY": ""]),
                PodManifest(namespace: "default", name: "bare", command: []),
            ])
    }

    @Test(
        "pods that cannot be run are refused",
        arguments: [
            "kind: Pod\nmetadata: {name: a}\nspec: {containers: []}",
            "kind: Pod\nmetadata: {}\nspec: {containers: [{name: a}]}",
            "kind: Pod\nmetadata: {name: a}",
            "kind: Pod\nmetadata: {name: a\n",
        ])
    func unusable(yaml: String) {
        #expect(throws: (any Error).self) { try PodManifest.all(yaml: yaml) }
    }

    @Test func anUnreadableFileIsNamed() throws {
        let folder = try TemporaryFolder()
        try folder.put("bad.yaml", "kind: [")
        let error = #expect(throws: LocalClusterError.self) { try PodManifest.all(in: folder.path) }
        #expect(error?.description.contains("bad.yaml") == true)
    }

    @Test func aLabelComesAndGoesAndTheRestStays() throws {
        let folder = try TemporaryFolder()
        try folder.put("other.yaml", "kind: ConfigMap\nmetadata: {name: x}\n")
        try folder.put(
            "all.yaml",
            """
            kind: Namespace
            metadata: {name: other}
            ---
            kind: Namespace
            metadata:
              name: shop
              labels: {team: blue}
            ---
            kind: Pod
            metadata: {name: web, namespace: shop}
            spec: {containers: [{name: web, command: [run]}]}
            """)
        let source = SourceFolder(path: folder.path)
        try source.enrol(namespace: "shop")
        let labelled = try folder.text("all.yaml")
        #expect(labelled.contains("istio.io/dataplane-mode: ambient"))
        #expect(labelled.contains("team: blue"))
        #expect(labelled.components("dataplane-mode") == 1)
        #expect(try PodManifest.all(in: folder.path).map(\.key) == ["shop/web"])
        try source.unenrol(namespace: "shop")
        #expect(try !folder.text("all.yaml").contains("dataplane-mode"))
        #expect(try folder.text("all.yaml").contains("team: blue"))
        #expect(try folder.text("other.yaml") == "kind: ConfigMap\nmetadata: {name: x}\n")
    }

    @Test func aNamespaceWithoutAFileIsAnError() throws {
        let folder = try TemporaryFolder()
        try folder.put("all.yaml", "kind: Namespace\nmetadata: {name: other}\n")
        #expect(throws: LocalClusterError.self) { try SourceFolder(path: folder.path).enrol(namespace: "shop") }
    }

    @Test func theExamplesHaveTheirPods() throws {
        let pods = try PodManifest.all(in: TestMachine.repository("examples/shop"))
        #expect(pods.map(\.key) == ["shop/client", "shop/server"])
        #expect(pods.map(\.node) == ["n1", "n2"])
        #expect(pods.allSatisfy { $0.command.first == "apus" })
    }

    @Test func theKubeletReportsWhatItKnows() throws {
        var status = KubeletStatus(
            namespace: "shop", name: "web", uid: "4d1c", node: "n1", hostAddress: "10.200.0.11", addresses: [],
            isReady: false)
        #expect(status.yaml.contains("phase: Pending"))
        #expect(!status.yaml.contains("podIP"))
        status.addresses = [.init(10, 201, 1, 2), .init(v6High: 0xfd00_0201_0001_0000, low: 2)]
        status.isReady = true
        #expect(status.yaml.contains("phase: Running"))
        #expect(status.yaml.contains("podIP: \"10.201.1.2\""))
        #expect(status.yaml.contains("    - ip: \"fd00:201:1::2\""))
        #expect(status.yaml.contains("    - type: Ready\n      status: \"True\""))
    }
}

extension String {
    fileprivate func components(_ part: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.range(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
