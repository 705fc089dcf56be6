import Testing

@testable import ObjectSource

@Suite("Documents become objects")
struct DocumentReaderTests {
    @Test("what a container may do, in every list of containers")
    func capabilities() throws {
        let objects = try read(
            """
            apiVersion: v1
            kind: Pod
            metadata: {name: web}
            spec:
              containers:
              - {name: a, securityContext: {capabilities: {add: [NET_ADMIN, SYS_TIME], drop: [ALL]}, runAsUser: 7}}
              - {name: b, securityContext: {privileged: true}}
              initContainers: [{name: c, securityContext: null}]
              ephemeralContainers: [{name: d, securityContext: {capabilities: {add: [NET_RAW]}}}]
            """
        ).get()
        guard case .pod(let pod) = objects.first else {
            Issue.record("no pod")
            return
        }
        #expect(
            pod.spec.containers.map(\.capabilities) == [
                ContainerCapabilities(added: ["NET_ADMIN", "SYS_TIME"], dropped: ["ALL"]),
                ContainerCapabilities(isPrivileged: true),
            ])
        #expect(pod.spec.initContainers.map(\.capabilities) == [ContainerCapabilities()])
        #expect(
            pod.spec.ephemeralContainers == [
                Container(name: "d", capabilities: ContainerCapabilities(added: ["NET_RAW"]))
            ])
    }

    @Test("every kind, several documents in one file")
    func everyKind() throws {
        let objects = try read(
            """
            # A comment first.
            apiVersion: v1
            kind: Namespace
            metadata:
              name: shop
              labels: {istio.io/dataplane-mode: ambient}
            ---
            apiVersion: v1
            kind: ServiceAccount
            metadata: {name: web, namespace: shop}
            ---
            apiVersion: v1
            kind: Pod
            metadata:
              name: web-1
              namespace: shop
              uid: 0f-1
              generateName: web-
              labels: {app: web}
              creationTimestamp: 2026-01-02T03:04:05Z
              ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-abc, controller: true, uid: x}]
            spec:
              serviceAccountName: web
              nodeName: n1
              containers:
                - name: main
                  image: example
                  command: ["sh", "-c", "while true; do echo *; done"]
                  ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]
              initContainers:
                - {name: helper, restartPolicy: Always, ports: [{containerPort: 9}]}
            status:
              phase: Running
              podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]
              conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "True"}]
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop}
            spec:
              clusterIP: 10.96.0.1
              selector: {app: web}
              ipFamilies: [IPv4]
              ports:
                - {name: http, port: 80, targetPort: http, appProtocol: http}
                - {name: admin, port: 81, targetPort: 8081}
                - {name: same, port: 82}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
            addressType: IPv4
            endpoints:
              - {addresses: [10.0.0.9], conditions: {ready: false}, targetRef: {kind: Pod, name: web-9}}
            ports: [{name: http, port: 8080}]
            ---
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: deny, namespace: shop}
            spec:
              selector: {matchLabels: {app: web}}
              action: DENY
              rules:
                - from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/client]}}]
                  to: [{operation: {ports: ["80"], notPorts: ["81"]}}]
                  when: [{key: source.ip, values: [10.0.0.0/8]}]
            ---
            apiVersion: security.istio.io/v1beta1
            kind: PeerAuthentication
            metadata: {name: strict, namespace: shop}
            spec:
              selector: {matchLabels: {app: web}}
              mtls: {mode: STRICT}
              portLevelMtls: {8080: {mode: PERMISSIVE}}
            """
        ).get()
        #expect(
            objects.map(\.kind) == [
                .namespace, .serviceAccount, .pod, .service, .endpointSlice, .authorizationPolicy, .peerAuthentication,
            ])
        guard case .pod(let pod) = objects[2], case .service(let service) = objects[3],
            case .endpointSlice(let slice) = objects[4], case .authorizationPolicy(let policy) = objects[5],
            case .peerAuthentication(let peer) = objects[6]
        else {
            Issue.record("kinds and payloads differ")
            return
        }
        #expect(objects[0].metadata.labels == ["istio.io/dataplane-mode": "ambient"])
        #expect(pod.metadata.creationTimestamp == 1_767_323_045)
        #expect(pod.metadata.owners == [OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: "web-abc")])
        #expect(
            pod.spec.containers[0].ports == [
                ContainerPort(name: "http", port: 8080), ContainerPort(port: 53, transport: .udp),
            ])
        #expect(pod.spec.initContainers[0].restartPolicy == "Always")
        #expect(pod.status == PodStatus(phase: .running, podIPs: ["10.0.0.1", "fd00::1"], isReady: true))
        #expect(service.spec.ports.map(\.target) == [.name("http"), .number(8081), .number(82)])
        #expect(
            slice.endpoints == [
                SliceEndpoint(
                    addresses: ["10.0.0.9"], isReady: false,
                    target: ObjectReference(kind: "Pod", name: "web-9", namespace: "shop"))
            ])
        #expect(policy.selector == ["app": "web"])
        #expect(policy.rules[0].from?[0].principals == PolicyValues(not: ["cluster.local/ns/shop/sa/client"]))
        #expect(policy.rules[0].to?[0].ports == PolicyValues(["80"], not: ["81"]))
        #expect(policy.rules[0].when == [PolicyCondition(key: "source.ip", values: PolicyValues(["10.0.0.0/8"]))])
        #expect(
            peer
                == PeerAuthentication(
                    metadata: peer.metadata, selector: ["app": "web"], mode: .strict, portModes: [8080: .permissive]))
    }

    @Test("JSON, lists, foreign kinds, absent namespaces, nulls")
    func otherForms() throws {
        let objects = try read(
            """
            {"apiVersion": "v1", "kind": "List", "items": [
            \t{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": null}, "spec": null},
            \t{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}]}
            """
        ).get()
        #expect(objects == [.pod(Pod(metadata: ObjectMeta(name: "a")))])
        #expect(try read("").get().isEmpty)
        #expect(try read("# nothing\n---\n# here\n").get().isEmpty)
        #expect(try read("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}").get().isEmpty)
    }

    @Test(
        "what is wrong is named by line and field",
        arguments: [
            ("kind: Pod\nmetadata: {name: a}", 1, "apiVersion", "missing"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {}", 3, "metadata.name", "missing"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: [x]", 4, "spec", "expected a mapping"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}", 3, "metadata.name", "is no name"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: ../../x}", 3, "metadata.name", "is no name"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    x: true", 6, "metadata.labels.x",
                "put it in quotes"
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  lables:\n    x: y", 5, "metadata.lables",
                "did you mean labels?"
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  hostNetwork: maybe", 5, "spec.hostNetwork",
                "true or false"
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus:\n  podIPs:\n    - ip: 10.0.0.1\n    - ip: 10.0.0",
                7, "status.podIPs[1].ip", "no IP address"
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n    - port: 70000", 6,
                "spec.ports[0].port", "1 to 65535"
            ),
            ("apiVersion: v1\nkind: Servcie\nmetadata: {name: a}", 2, "kind", "did you mean Service?"),
            ("apiVersion: v2\nkind: Pod\nmetadata: {name: a}", 1, "apiVersion", "use v1"),
            (
                "apiVersion: security.istio.io/v1\nkind: AuthzPolicy\nmetadata: {name: a}", 2, "kind", "is unknown"
            ),
            (
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n"
                    + "  rules:\n    - form: [{source: {namespaces: [x]}}]", 6, "spec.rules[0].form",
                "did you mean from?"
            ),
            (
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n"
                    + "  rules:\n    - from:\n        - source:\n            groups: [x]", 8,
                "spec.rules[0].from[0].source.groups", "unknown field"
            ),
            (
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n"
                    + "  rules:\n    - to: [{operation: {ports: [http]}}]", 6,
                "spec.rules[0].to[0].operation.ports", "is no port"
            ),
            (
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n"
                    + "  rules:\n    - from: []", 6, "spec.rules[0].from", "is empty"
            ),
            (
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec:\n"
                    + "  mtls: {mode: STRIKT}", 5, "spec.mtls.mode", "none of"
            ),
            (
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec:\n"
                    + "  portLevelMtls: {80: {mode: STRICT}}", 5, "spec.portLevelMtls", "needs a selector"
            ),
            ("apiVersion: v1\nkind: [Pod", 3, "", "is no YAML"),
            ("apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: a}", 2, "", "twice"),
            ("- a\n- b", 1, "", "expected a mapping"),
        ])
    func wrong(text: String, line: Int, field: String, message: String) {
        let found = problems(text)
        #expect(found.count == 1)
        #expect(found.first?.file == "a.yaml")
        #expect(found.first?.line == line, "\(found)")
        #expect(found.first?.field == field)
        #expect(found.first?.message.contains(message) == true, "\(found)")
    }

    @Test("all wrong documents of a file are named at once; a second definition in it, too")
    func severalProblems() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
        let found = problems("\(pod)---\n\(pod)spec: 7\n---\nkind: Pod\n")
        #expect(found.map(\.line) == [8, 10])
        #expect(problems("\(pod)---\n\(pod)").first?.message == "Pod default/a is defined in line 1 already")
    }

    @Test("bytes that are no text, and too many of them")
    func sizes() {
        #expect(problems(String(repeating: "#", count: (1 << 20) + 1)).first?.message.contains("larger than") == true)
        let garbage: [[UInt8]] = [[0xff, 0xfe, 0x41], [0x61, 0x00], Array("a: \u{1b}[0m".utf8)]
        for bytes in garbage {
            guard case .failure(let problems) = DocumentReader.read(bytes, file: "x.yaml") else {
                Issue.record("\(bytes) was read")
                continue
            }
            #expect(problems.list.count == 1)
        }
    }

    @Test(
        "times",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-01-02T03:04:05.678Z", 1_767_323_045),
            ("2026-01-02T05:04:05+02:00", 1_767_323_045), ("2026-01-02", nil), ("2026-13-02T03:04:05Z", nil),
            ("2026-01-02T03:04:05", nil),
        ] as [(String, Int64?)])
    func times(text: String, seconds: Int64?) {
        #expect(Timestamp.parse(text) == seconds)
    }
}
