import Addressing
import Discovery
import IstioAPI
import Mesh
import Testing

@testable import Controller

@Suite("Pods as workloads")
struct WorkloadTests {
    private func pod(
        metadata: String = "", spec: String = "", phase: String = "Running", ready: String = "True",
        ips: String = "{ip: 10.0.0.1}"
    ) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: web-1, namespace: shop, \(metadata)}
        spec: {serviceAccountName: web, nodeName: n1, \(spec)}
        status: {phase: \(phase), podIPs: [\(ips)], conditions: [{type: Ready, status: "\(ready)"}]}

        """
    }

    @Test("the golden pod")
    func golden() throws {
        let result = try Translated(pod(ips: #"{ip: 10.0.0.1}, {ip: "fd00::1"}"#))
        #expect(
            try result.workload("web-1")
                == Workload(
                    uid: "Kubernetes//Pod/shop/web-1", name: "web-1", namespace: "shop",
                    addresses: [IPAddress(10, 0, 0, 1), IPAddress(v6High: 0xfd00 << 48, low: 1)],
                    trustDomain: "cluster.local", serviceAccount: "web", node: "n1", canonicalName: "web-1",
                    canonicalRevision: "latest", kind: .pod, workloadName: "web-1"))
        #expect(result.policies.isEmpty)
        #expect(result.workloads.count == 1)
    }

    @Test(
        "R8: who is published; R9: and how healthy",
        arguments: [
            ("Running", "True", "", "{ip: 10.0.0.1}", Workload.Status.healthy),
            ("Running", "False", "", "{ip: 10.0.0.1}", .unhealthy),
            ("Pending", "False", "", "{ip: 10.0.0.1}", .unhealthy),
            ("Running", "True", "deletionTimestamp: 2026-01-02T03:04:05Z", "{ip: 10.0.0.1}", .unhealthy),
            ("Succeeded", "True", "", "{ip: 10.0.0.1}", nil),
            ("Failed", "True", "", "{ip: 10.0.0.1}", nil),
            ("Running", "True", "", "", nil),
        ])
    func status(phase: String, ready: String, metadata: String, ips: String, expected: Workload.Status?) throws {
        let result = try Translated(pod(metadata: metadata, phase: phase, ready: ready, ips: ips))
        #expect(result.workloads["web-1"]?.status == expected)
    }

    @Test(
        "R13: the tunnel follows what is reported, never the label",
        arguments: [
            ("labels: {istio.io/dataplane-mode: ambient}", Workload.TunnelProtocol.none, false),
            ("annotations: {ambient.istio.io/redirection: enabled}", .hbone, false),
            ("annotations: {ambient.istio.io/redirection: pending}", .none, false),
            ("labels: {networking.istio.io/tunnel: http}", .hbone, true),
            ("labels: {security.istio.io/tlsMode: istio}", .none, false),
        ])
    func tunnel(metadata: String, expected: Workload.TunnelProtocol, isNative: Bool) throws {
        let namespace = """
            apiVersion: v1
            kind: Namespace
            metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
            ---

            """
        let workload = try Translated(namespace + pod(metadata: metadata)).workload("web-1")
        #expect(workload.tunnelProtocol == expected)
        #expect(workload.nativeTunnel == isNative)
    }

    @Test(
        "R13: where it is asked for, a sidecar's label says the older mTLS, whatever else is said before it",
        arguments: [
            ("labels: {security.istio.io/tlsMode: istio}", Workload.TunnelProtocol.legacyMTLS, false),
            ("labels: {security.istio.io/tlsMode: disabled}", .none, false),
            (
                "annotations: {ambient.istio.io/redirection: enabled}, labels: {security.istio.io/tlsMode: istio}",
                .legacyMTLS, false
            ),
            ("labels: {networking.istio.io/tunnel: http, security.istio.io/tlsMode: istio}", .legacyMTLS, true),
            ("annotations: {ambient.istio.io/redirection: enabled}", .hbone, false),
        ])
    func olderMTLS(metadata: String, expected: Workload.TunnelProtocol, isNative: Bool) throws {
        var configuration = MeshConfiguration()
        configuration.publishesLegacyMTLS = true
        let workload = try Translated(pod(metadata: metadata), configuration).workload("web-1")
        #expect(workload.tunnelProtocol == expected)
        #expect(workload.nativeTunnel == isNative)
        let wire = Istio_Workload_Workload(workload)
        #expect((wire.tunnelProtocol == .legacyIstioMtls) == (expected == .legacyMTLS))
    }

    @Test(
        "R14: workload names; R15: canonical names",
        arguments: [
            ("", "web-1", "web-1", "latest"),
            ("labels: {app: a, version: v1}", "web-1", "a", "v1"),
            (
                "labels: {app: a, app.kubernetes.io/name: b, app.kubernetes.io/version: v2, version: v1}", "web-1", "b",
                "v2"
            ),
            (
                "labels: {service.istio.io/canonical-name: c, app: a, service.istio.io/canonical-revision: r}", "web-1",
                "c", "r"
            ),
            ("labels: {service.istio.io/workload-name: w}", "w", "w", "latest"),
            (
                "generateName: web-abc-, labels: {pod-template-hash: abc}, "
                    + "ownerReferences: [{kind: ReplicaSet, name: web-abc, controller: true}]", "web", "web", "latest"
            ),
            (
                "generateName: web-abc-, labels: {rollouts-pod-template-hash: abc}, "
                    + "ownerReferences: [{kind: ReplicaSet, name: web-abc, controller: true}]", "web", "web", "latest"
            ),
            (
                "generateName: web-, ownerReferences: [{kind: ReplicaSet, name: web-abc, controller: true}]", "web-abc",
                "web-abc", "latest"
            ),
            (
                "generateName: db-, ownerReferences: [{kind: StatefulSet, name: db, controller: true}]", "db", "db",
                "latest"
            ),
            (
                "generateName: j-, ownerReferences: [{kind: Job, name: tidy-29012345, controller: true}]", "tidy",
                "tidy", "latest"
            ),
            (
                "generateName: j-, ownerReferences: [{kind: Job, name: tidy-2901, controller: true}]", "tidy-2901",
                "tidy-2901", "latest"
            ),
            (
                "generateName: r-, labels: {deploymentconfig: dc}, "
                    + "ownerReferences: [{kind: ReplicationController, name: dc-1, controller: true}]", "dc", "dc",
                "latest"
            ),
            ("ownerReferences: [{kind: Job, name: tidy-29012345, controller: true}]", "web-1", "web-1", "latest"),
            (
                "generateName: j-, ownerReferences: [{kind: Job, name: tidy-29012345}]", "web-1", "web-1", "latest"
            ),
        ])
    func names(metadata: String, workloadName: String, canonicalName: String, revision: String) throws {
        let workload = try Translated(pod(metadata: metadata)).workload("web-1")
        #expect(workload.workloadName == workloadName)
        #expect(workload.canonicalName == canonicalName)
        #expect(workload.canonicalRevision == revision)
        #expect(workload.kind == .pod)
    }

    @Test("R10: trust domain, cluster and account; R12: host network")
    func surroundings() throws {
        var configuration = MeshConfiguration()
        configuration.trustDomain = "td.example"
        configuration.clusterID = "c1"
        let root = """
            apiVersion: v1
            kind: Namespace
            metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}
            ---

            """
        let workload = try Translated(root + pod(spec: "hostNetwork: true"), configuration).workload("web-1")
        #expect(workload.networkMode == .hostNetwork)
        #expect(workload.network == "net1")
        #expect(workload.trustDomain == "td.example")
        #expect(workload.uid == "c1//Pod/shop/web-1")
        #expect(workload.clusterID == "c1")
    }

    @Test("R17: services by selector; R18: with the pod's own ports for names; a port it does not have is left out")
    func memberships() throws {
        let services = """
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop}
            spec:
              selector: {app: a}
              ports:
                - {port: 80, targetPort: http}
                - {port: 81}
                - {port: 82, targetPort: missing}
                - {port: 83, targetPort: side}
                - {port: 84, targetPort: dns}
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: other, namespace: shop}
            spec: {selector: {app: a, tier: x}, ports: [{port: 80}]}
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: elsewhere}
            spec: {selector: {app: a}, ports: [{port: 80}]}
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: outside, namespace: shop}
            spec: {type: ExternalName, selector: {app: a}, ports: [{port: 80}]}
            """
        let spec = """
            containers: [{name: c, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}],
              initContainers: [{name: i, ports: [{name: missing, containerPort: 1}]},
                {name: s, restartPolicy: Always, ports: [{name: side, containerPort: 9}]}]
            """
        let result = try Translated(pod(metadata: "labels: {app: a}", spec: spec) + services)
        #expect(
            try result.workload("web-1").services == [
                NamespacedHostname(namespace: "shop", hostname: "web.shop.svc.cluster.local"): [
                    80: 8080, 81: 81, 83: 9,
                ]
            ])
        #expect(Set(result.services.keys) == ["web", "other"])
    }

    @Test("R29: slices: pods by name for services without selector, others as workloads of their own")
    func slices() throws {
        let text =
            pod(metadata: "uid: u1") + """
                ---
                apiVersion: v1
                kind: Service
                metadata: {name: manual, namespace: shop}
                spec: {ports: [{name: http, port: 80, targetPort: 8080}, {name: admin, port: 81}]}
                ---
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata: {name: manual-x, namespace: shop, labels: {kubernetes.io/service-name: manual}}
                addressType: IPv4
                ports: [{name: http, port: 9090}, {name: admin, port: 91, protocol: UDP}]
                endpoints:
                  - {addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-1, uid: u1}}
                  - {addresses: [192.0.2.7]}
                  - {addresses: [192.0.2.8], conditions: {ready: false}}
                ---
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata: {name: unrelated, namespace: shop}
                addressType: IPv4
                endpoints: [{addresses: [192.0.2.9]}]
                ---
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata: {name: names, namespace: shop, labels: {kubernetes.io/service-name: manual}}
                addressType: FQDN
                endpoints: [{addresses: [a.example]}]
                """
        let resources = MeshTranslation().resources(of: try objects(text)).resources
        let key = NamespacedHostname(namespace: "shop", hostname: "manual.shop.svc.cluster.local")
        var found: [String: Workload] = [:]
        for case .workload(let workload) in resources { found[workload.uid] = workload }
        #expect(found.count == 3)
        #expect(found["Kubernetes//Pod/shop/web-1"]?.services == [key: [80: 8080, 81: 81]])
        let prefix = "Kubernetes/discovery.k8s.io/EndpointSlice/shop/manual-x"
        let outside = try #require(found["\(prefix)/192.0.2.7"])
        #expect(outside.services == [key: [80: 9090]])
        #expect(outside.networkMode == .hostNetwork)
        #expect(outside.tunnelProtocol == .none)
        #expect(outside.status == .healthy)
        #expect(found["\(prefix)/192.0.2.8"]?.status == .unhealthy)
    }
}
