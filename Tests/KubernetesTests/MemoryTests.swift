import Foundation
import ObjectSource
import Testing

@testable import Kubernetes

@Suite("What a cached object costs")
struct MemoryTests {
    /// As large as a server sends them: what kubelet and controllers write is most of it.
    static func pod(_ index: Int) -> String {
        let (set, hash) = (index / 50, String(index / 50, radix: 36))
        let managed = (0..<40).map { #""f:field-\#($0)":{"f:name":{},"f:value":{}}"# }.joined(separator: ",")
        return """
            {"metadata":{"name":"checkout-service-\(hash)-\(String(index, radix: 36))","generateName":"checkout-service-\(hash)-",\
            "namespace":"team-\(set % 40)-production","uid":"0f8fad5b-d9cb-469f-a165-\(100_000_000_000 + index)",\
            "resourceVersion":"\(index + 1)","creationTimestamp":"2026-01-02T03:04:05Z",\
            "labels":{"app.kubernetes.io/name":"checkout-service-\(set)","app.kubernetes.io/part-of":"storefront",\
            "pod-template-hash":"\(hash)","version":"v1"},\
            "annotations":{"kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z","ambient.istio.io/redirection":"enabled",\
            "checksum/config":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},\
            "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"checkout-service-\(hash)","uid":"x","controller":true}],\
            "managedFields":[{"manager":"kubelet","fieldsV1":{\(managed)}}]},\
            "spec":{"serviceAccountName":"checkout-service","nodeName":"ip-10-0-0-\(index % 200).internal",\
            "containers":[{"name":"main","image":"registry/checkout:v1","env":[{"name":"A","value":"b"}],\
            "ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}],\
            "readinessProbe":{"httpGet":{"path":"/ready","port":"http"}},"resources":{"limits":{"cpu":"1"}},\
            "volumeMounts":[{"name":"t","mountPath":"/var/run"}]}],"volumes":[{"name":"t","emptyDir":{}}]},\
            "status":{"phase":"Running","podIP":"10.\(index >> 16 & 255).\(index >> 8 & 255).\(index & 255)",\
            "podIPs":[{"ip":"10.\(index >> 16 & 255).\(index >> 8 & 255).\(index & 255)"}],\
            "conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"main","ready":true}]}}
            """
    }

    static func residentBytes() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        return try #require(text.split(separator: " ").dropFirst().first.flatMap { Int($0) }) * 4096
    }

    @Test("a pod that is several KiB of JSON is kept in less than one and a half")
    func perPod() throws {
        let count = 20_000
        var (reflection, sharing) = (Reflection(), Sharing())
        var contents = ClusterContents(kinds: [.pod])
        func read(_ range: Range<Int>) throws -> [Reflection.Item] {
            try range.map { index in
                let node = try DocumentTree(json: Array(Self.pod(index).utf8)).root
                let object = sharing.share(try KubernetesObject(.pod, served: node, name: "p"))
                return Reflection.Item(
                    name: object.metadata.objectName, version: UInt64(index + 1), content: .success(object))
            }
        }
        // What readers need once is there before it is measured.
        _ = try read(0..<200)
        let before = try Self.residentBytes()
        var start = 0
        while start < count {
            let end = min(start + 500, count)
            let change = reflection.listed(
                try read(start..<end), version: "9", next: end < count ? "more" : nil)
            if let change { _ = contents.apply(change, of: .pod) }
            start = end
        }
        let perPod = (try Self.residentBytes() - before) / count
        #expect(contents.snapshot.pods.count == count)
        print("bytes of memory a cached pod: \(perPod), of JSON: \(Self.pod(count).utf8.count)")
        #expect(perPod < 1536)
    }
}
