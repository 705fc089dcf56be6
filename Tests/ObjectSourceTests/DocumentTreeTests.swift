import Testing

@testable import ObjectSource

@Suite("Documents as trees of values")
struct DocumentTreeTests {
    private func tree(_ text: String) throws -> DocumentNode { try DocumentTree(json: Array(text.utf8)).root }

    @Test("every kind of JSON value, nested")
    func values() throws {
        let root = try tree(
            #" {"s": "text", "n": -12, "f": 1.5e3, "t": true, "x": null, "l": [1, [], {}, {"a": "b"}], "e": ""} "#)
        #expect(root["s"]?.string == "text")
        #expect(root["n"]?.integer == -12)
        #expect(root["f"]?.integer == nil)
        #expect(root["t"]?.bool == true)
        #expect(root["x"] == nil, "null counts as absent")
        #expect(root["e"]?.string == "")
        #expect(root["missing"] == nil)
        #expect(root["n"]?.string == nil)
        let list = try #require(root["l"]?.elements)
        #expect(list.count == 4)
        #expect(list[0].integer == 1)
        #expect(list[1].elements?.isEmpty == true)
        #expect(list[2].names.isEmpty && list[2].isMapping)
        #expect(list[3]["a"]?.string == "b")
        #expect(root.names == ["s", "n", "f", "t", "x", "l", "e"])
    }

    @Test(
        "escapes, in values and in names",
        arguments: [
            (#""a\"b\\c\/d""#, "a\"b\\c/d"), (#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"), (#""\u00e9\u20AC""#, "é€"),
            (#""\ud83d\ude00""#, "😀"), (#""x\ud83dy""#, "x\u{fffd}y"), (#""\ude00""#, "\u{fffd}"), (#""é""#, "é"),
        ])
    func escapes(text: String, expected: String) throws {
        #expect(try tree(text).string == expected)
        let root = try tree("{\"before\": \"\\n\", \(text): 1, \"after\": \"\\t\"}")
        #expect(root[expected]?.integer == 1)
        #expect(root["before"]?.string == "\n")
        #expect(root["after"]?.string == "\t")
    }

    @Test(
        "what is no JSON says where",
        arguments: [
            ("", 0), ("{", 1), ("{\"a\"", 4), ("{\"a\":1,}", 7), ("[1 2]", 3), ("{}x", 2), ("nul", 0), ("\"ab", 3),
            ("\"a\u{1}\"", 2), ("\"\\x\"", 3), ("\"\\u12", 5), ("{a: 1}", 1), ("[1,]", 3), ("'a'", 0),
        ])
    func refusals(text: String, position: Int) {
        #expect {
            try tree(text)
        } throws: { error in
            (error as? JSONProblem)?.position == position
        }
    }

    @Test("nesting is bounded")
    func depth() throws {
        _ = try tree(String(repeating: "[", count: 64) + String(repeating: "]", count: 64))
        #expect(throws: JSONProblem.self) {
            try tree(String(repeating: "[", count: 65) + String(repeating: "]", count: 65))
        }
    }

    @Test("every prefix of a document and every change of one byte is read or refused, never a crash")
    func mangled() throws {
        let text = Array(#"{"kind":"Pod","m":{"n":"w\u00e9b","l":["a",{"b":null}],"x":-1.5},"t":true}"#.utf8)
        for length in 0..<text.count {
            #expect(throws: JSONProblem.self) { try DocumentTree(json: Array(text[..<length])) }
        }
        for index in text.indices {
            for byte: UInt8 in [0, 0x22, 0x5c, 0x5b, 0x7d, 0xff] {
                var other = text
                other[index] = byte
                guard let root = try? DocumentTree(json: other).root else { continue }
                for name in root.names { _ = root[name]?.elements?.map(\.string) }
            }
        }
    }
}

@Suite("Objects as an API server sends them")
struct ServedObjectTests {
    private func read(_ kind: ObjectKind, _ text: String) throws -> KubernetesObject {
        try KubernetesObject(kind, served: DocumentTree(json: Array(text.utf8)).root, name: "\(kind.rawValue) a/b")
    }

    @Test("a pod, with what the mesh has no use for left out")
    func pod() throws {
        let object = try read(
            .pod,
            """
            {"metadata": {"name": "web-1", "generateName": "web-", "namespace": "shop", "uid": "u-1",
              "resourceVersion": "7", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"app": "web"},
              "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "plain": "x",
                "ambient.istio.io/redirection": "enabled", "apus.dev/fail-closed": "true", "notistio.io/x": "y"},
              "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
              "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r",
                "controller": true, "blockOwnerDeletion": true}]},
             "spec": {"serviceAccountName": "web", "nodeName": "n1", "hostPID": true, "nodeNam": "typo of a later version",
               "containers": [{"name": "c", "image": "i", "resources": {},
                 "ports": [{"containerPort": 8080, "protocol": "TCP", "name": "http"}],
                 "livenessProbe": {"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "failureThreshold": 3}}]},
             "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
               "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}]}}
            """)
        guard case .pod(let pod) = object else {
            Issue.record("no pod")
            return
        }
        #expect(pod.metadata.annotations.keys.sorted() == ["ambient.istio.io/redirection", "apus.dev/fail-closed"])
        #expect(pod.metadata.creationTimestamp == 1_767_323_045)
        #expect(pod.metadata.owners == [OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: "web")])
        #expect(pod.spec.probePorts == [8080])
        #expect(pod.status.podIPs == ["10.0.0.1", "fd00::1"])
        #expect(pod.status.isReady)
        #expect(pod.spec.nodeName == "n1")
    }

    @Test("an unknown field of a policy is a problem that names the object and the field")
    func policy() {
        #expect {
            try read(
                .authorizationPolicy,
                #"{"metadata": {"name": "b", "namespace": "a"}, "spec": {"rules": [{"form": []}]}}"#)
        } throws: { error in
            "\(error)" == "AuthorizationPolicy a/b: spec.rules[0].form: unknown field; did you mean from?"
        }
    }

    @Test("the same object reads the same from YAML and from JSON")
    func same() throws {
        let yaml = """
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop, labels: {a: b}}
            spec:
              clusterIPs: [10.96.0.1]
              ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, targetPort: dns, protocol: UDP}]
            """
        let json = """
            {"metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}}, "spec": {"clusterIPs": ["10.96.0.1"],
             "ports": [{"name": "http", "port": 80, "targetPort": 8080},
              {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"}]}}
            """
        let file = try DocumentReader.read(Array(yaml.utf8), file: "a.yaml").get().map(\.object)
        #expect(file == [try read(.service, json)])
    }
}
