import Foundation
import Kubernetes
import Testing

@testable import TestAPIServer

@Suite("Tokens and roles")
struct RightsTests {
    private static let reviews = "/apis/authentication.k8s.io/v1/tokenreviews"

    private func review(_ api: inout Asked, _ token: String, _ audiences: String = "[]") -> JSON {
        api("POST", Self.reviews, #"{"spec":{"token":"\#(token)","audiences":\#(audiences)}}"#).value["status"] ?? [:]
    }

    private func token(_ api: inout Asked, _ spec: String) -> (code: Int, token: String) {
        let answer = api("POST", "/api/v1/namespaces/shop/serviceaccounts/default/token", #"{"spec":\#(spec)}"#)
        return (answer.code, answer.value.at("status", "token")?.string ?? "")
    }

    @Test("a token is for its audience, until it expires, as long as its account and its pod are there")
    func tokens() throws {
        var api = try Asked()
        api("POST", "/api/v1/nodes", #"{"metadata":{"name":"n1"}}"#)
        _ = api.createPod("web", #","nodeName":"n1""#)
        let spec = #"{"audiences":["istio-ca"],"expirationSeconds":600,"boundObjectRef":{"kind":"Pod","name":"web"}}"#
        let (code, token) = token(&api, spec)
        #expect(code == 201)
        let status = review(&api, token, #"["istio-ca","other"]"#)
        #expect(status["authenticated"] == true && status["audiences"] == ["istio-ca"])
        #expect(status.at("user", "username") == "system:serviceaccount:shop:default")
        #expect(status.at("user", "extra")?["authentication.kubernetes.io/pod-name"] == ["web"])
        #expect(status.at("user", "extra")?["authentication.kubernetes.io/node-name"] == ["n1"])
        #expect(review(&api, token)["authenticated"] == false, "it is for no API server")
        #expect(review(&api, token + "x", #"["istio-ca"]"#)["authenticated"] == false)
        api.now += 599
        #expect(review(&api, token, #"["istio-ca"]"#)["authenticated"] == true)
        api.now += 1
        #expect(review(&api, token, #"["istio-ca"]"#)["authenticated"] == false)
        api.now -= 100
        api("DELETE", "\(Asked.pods)/web")
        #expect(review(&api, token, #"["istio-ca"]"#)["authenticated"] == false)
        _ = api.createPod("web")
        #expect(review(&api, token, #"["istio-ca"]"#)["authenticated"] == false, "another pod of the same name")
    }

    @Test(
        "a token that cannot be is refused",
        arguments: [
            (#"{"expirationSeconds":60}"#, 400), (#"{"boundObjectRef":{"kind":"Pod","name":"none"}}"#, 400),
            (#"{"boundObjectRef":{"kind":"Pod","name":"web","uid":"other"}}"#, 409),
            (#"{"boundObjectRef":{"kind":"Secret","name":"web"}}"#, 400),
        ])
    func badTokens(spec: String, code: Int) throws {
        var api = try Asked()
        _ = api.createPod("web")
        #expect(token(&api, spec).code == code)
    }

    @Test("a right to a name is one to list and watch that name, by the field selector, and no other")
    func names() throws {
        let role: JSON = [
            "rules": [["apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["roots"], "verbs": ["list"]]]
        ]
        var store = Store()
        func put(_ plural: String, _ name: String, _ value: JSON) throws {
            let kind = try #require(store.kinds.all["\(plural).rbac.authorization.k8s.io"])
            store.record(value, kind, Store.ID(namespace: "", name: name))
        }
        try put("clusterroles", "r", role)
        try put(
            "clusterrolebindings", "b",
            [
                "roleRef": ["kind": "ClusterRole", "name": "r"], "subjects": [["kind": "User", "name": "u"]],
            ])
        var cluster = Cluster(now: Date(timeIntervalSince1970: 0))
        cluster.store = store
        cluster.enforcesRoles = true
        for (selector, code) in [
            ("metadata.name=roots", 200), ("metadata.name=other", 403), ("", 403),
            ("metadata.name=roots,metadata.namespace=a", 403),
        ] {
            var request = APIRequest(method: "GET", path: "/api/v1/configmaps", contentType: "")
            request.query["fieldSelector"] = selector.isEmpty ? nil : selector
            request.user = APIUser(name: "u")
            guard case .value(_, let answered, _) = cluster.handle(request, now: Date(timeIntervalSince1970: 0)) else {
                Issue.record("\(selector)")
                continue
            }
            #expect(answered == code, "\(selector)")
        }
    }

    @Test("a new key ends the tokens of the old one")
    func rotation() throws {
        var api = try Asked()
        let token = token(&api, "{}").token
        #expect(review(&api, token)["authenticated"] == true)
        let keys = api("GET", "/openid/v1/jwks").value
        api.cluster.tokens.rotate()
        #expect(review(&api, token)["authenticated"] == false)
        #expect(api("GET", "/openid/v1/jwks").value != keys)
    }

    @Test(
        "roles allow what they say, and no more",
        arguments: [
            ("GET", "/api/v1/pods", 200), ("GET", "/api/v1/namespaces/shop/pods/web", 200),
            ("DELETE", "/api/v1/namespaces/shop/pods/web", 403),
            ("PATCH", "/api/v1/namespaces/shop/pods/web/status", 200),
            ("PATCH", "/api/v1/namespaces/shop/pods/web", 403), ("GET", "/api/v1/nodes", 403),
            ("GET", "/api/v1/namespaces/shop/configmaps/mine", 404),
            ("GET", "/api/v1/namespaces/shop/configmaps/other", 403),
            ("GET", "/api/v1/namespaces/default/configmaps/mine", 403), ("GET", "/apis", 200),
        ])
    func roles(method: String, path: String, code: Int) throws {
        var api = try Asked()
        _ = api.createPod("web")
        let rbac = "/apis/rbac.authorization.k8s.io/v1"
        let rules =
            #"[{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]},{"apiGroups":[""],"resources":["pods/status"],"verbs":["patch"]}]"#
        let subject = #"[{"kind":"ServiceAccount","name":"default","namespace":"shop"}]"#
        func bind(_ kind: String, _ rules: String, _ base: String) {
            let plural = kind.lowercased() + "s"
            api("POST", "\(base)/\(plural)", #"{"metadata":{"name":"r"},"rules":\#(rules)}"#)
            let answer = api(
                "POST", "\(base)/\(kind.lowercased())bindings",
                #"{"metadata":{"name":"b"},"roleRef":{"kind":"\#(kind)","name":"r"},"subjects":\#(subject)}"#)
            #expect(answer.code == 201)
        }
        bind("ClusterRole", rules, rbac)
        bind(
            "Role", #"[{"apiGroups":[""],"resources":["configmaps"],"verbs":["get"],"resourceNames":["mine"]}]"#,
            "\(rbac)/namespaces/shop")
        api.cluster.enforcesRoles = true
        api.user = APIUser(name: "system:serviceaccount:shop:default", groups: ["system:authenticated"])
        let answer = api(method, path, method == "PATCH" ? "{}" : "", type: Asked.merge)
        #expect(answer.code == code, "\(answer.value.text)")
    }
}
