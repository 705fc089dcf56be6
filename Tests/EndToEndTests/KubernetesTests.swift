import Foundation
import Testing

@testable import LocalCluster

extension EndToEnd {
    @Suite("On Kubernetes", .serialized)
    struct KubernetesTests {
        private static let label = "istio.io/dataplane-mode"
        private static let redirection = #"{.metadata.annotations.ambient\.istio\.io/redirection}"#

        private func reasons(_ mesh: KubernetesMesh, _ pod: String) throws -> Set<String> {
            let path = "jsonpath={range .items[*]}{.reason}{\"\\n\"}{end}"
            let text = try mesh.kubectl(
                "get", "events", "-n", Stage.namespace, "--field-selector", "involvedObject.name=\(pod)", "-o", path)
            return Set(text.split(separator: "\n").map(String.init))
        }

        @Test func kubectlLabelTakesRunningPodsInAndItsRemovalLetsThemGo() async throws {
            try await KubernetesMesh.run { mesh, stage in
                try stage.driver.open("old", to: stage.echo())
                let pods = [stage.client, stage.server]
                let before = try pods.map { try $0.kernelState() }
                #expect(
                    try mesh.kubectl("get", "pod", "client", "-n", "shop", "-o", "jsonpath=\(Self.redirection)") == "")

                try mesh.kubectl("label", "namespace", "shop", "\(Self.label)=ambient")
                let done = try mesh.kubectl(
                    "wait", "pods", "--all", "-n", "shop", "--for=jsonpath=\(Self.redirection)=enabled", "--timeout=20s"
                )
                #expect(done.split(separator: "\n").count == 2)
                for (pod, state) in zip(pods, before) {
                    let now = try pod.kernelState()
                    #expect(
                        state.differences(to: now).contains { $0.hasPrefix("ruleset") || $0.hasPrefix("listeners") })
                    try Waiting.untilTrue("the pod's owner to be told", within: .seconds(10)) {
                        try reasons(mesh, pod.manifest.name).contains("Enrolled")
                    }
                }
                #expect(try stage.driver.get(stage.http(), path: "/captured").status == 200)
                #expect(try stage.driver.exchange("old", "in the mesh") == "in the mesh")

                // One pod goes by its own label, the other stays.
                try mesh.kubectl("label", "pod", "client", "-n", "shop", "\(Self.label)=none")
                try Waiting.untilTrue("the client to be let go", within: .seconds(20)) {
                    try mesh.kubectl("get", "pod", "client", "-n", "shop", "-o", "jsonpath=\(Self.redirection)") == ""
                }
                #expect(
                    try mesh.kubectl("get", "pod", "server", "-n", "shop", "-o", "jsonpath=\(Self.redirection)")
                        == "enabled")

                try mesh.kubectl("label", "namespace", "shop", "\(Self.label)-")
                var left: [String] = []
                try Waiting.untilTrue(
                    "the pods to be as before", within: .seconds(20), detail: { left.joined(separator: "; ") }
                ) {
                    left = try zip(before, pods).flatMap { $0.differences(to: try $1.kernelState()) }
                    return left.isEmpty
                }
                try Waiting.untilTrue("the annotations to be gone", within: .seconds(10)) {
                    let text = try mesh.kubectl("get", "pods", "-n", "shop", "-o", "yaml")
                    return !text.contains("ambient.istio.io/redirection")
                }
                #expect(try reasons(mesh, "server").contains("Unenrolled"))
                #expect(try stage.driver.get(stage.http(), path: "/free").status == 200)
                #expect(try stage.driver.exchange("old", "out of it") == "out of it")
            }
        }
    }
}
