import Foundation
import Kubernetes
import Testing

@testable import TestAPIServer

@Suite("A cluster's API, asked without a network")
struct ClusterTests {
    @Test("an object is made once, with what the server adds, in a namespace that exists")
    func create() throws {
        var api = try Asked()
        let pod = api.createPod("web", #","nodeName":"n1""#)
        #expect(pod.at("metadata", "creationTimestamp") == "2026-01-02T03:04:05Z")
        #expect(!pod.uid.isEmpty && !pod.resourceVersion.isEmpty && pod.namespace == "shop")
        #expect(pod.at("metadata", "generation") == 1)
        #expect(pod.at("status", "phase") == "Pending")
        #expect(pod.at("spec", "serviceAccountName") == "default")
        #expect(pod["apiVersion"] == "v1" && pod["kind"] == "Pod")
        #expect(pod.at("metadata", "managedFields")?.list?.first?["manager"] == "test")
        #expect(api.createPod("web")["reason"] == "AlreadyExists")
        let lost = api("POST", "/api/v1/namespaces/nowhere/pods", #"{"metadata":{"name":"x"}}"#)
        #expect(lost.code == 404 && lost.value["message"] == "namespaces \"nowhere\" not found")
        let made = api("POST", "/api/v1/namespaces/shop/configmaps", #"{"metadata":{"generateName":"web-"}}"#).value
        #expect(made.name.hasPrefix("web-") && made.name.count == 9)
        #expect(api("GET", "/api/v1/namespaces/shop/configmaps/\(made.name)").value == made)
        #expect(api("GET", "/api/v1/namespaces/shop/serviceaccounts/default").code == 200)
    }

    @Test(
        "what is no object is refused with its field",
        arguments: [
            (#"{"metadata":{}}"#, 422, "metadata.name"), (#"{"metadata":{"name":"Web"}}"#, 422, "metadata.name"),
            (#"{"metadata":{"name":"x","labels":{"a":"b c"}}}"#, 422, "metadata.labels"),
            (#"{"metadata":{"name":"x","labels":{"a":1}}}"#, 422, "metadata.labels.a"),
            (#"{"metadata":{"name":"x"},"spec":{"containers":[]}}"#, 422, "spec.containers"),
            (
                #"{"metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"v"}]}]}}"#,
                422, "volumeMounts[0].name"
            ),
            (#"{"kind":"Node","metadata":{"name":"x"}}"#, 400, "expected v1, Pod"),
            (#"{"metadata":{"name":"x","namespace":"other"}}"#, 400, "namespace"),
            (#"{"metadata":"#, 400, "cannot be read"),
            ("[]", 400, "no object"),
        ])
    func refused(body: String, code: Int, word: String) throws {
        var api = try Asked()
        let answer = api("POST", Asked.pods, body)
        #expect(answer.code == code)
        #expect(answer.value["message"]?.string?.contains(word) == true, "\(answer.value.text)")
        #expect(answer.value["kind"] == "Status" && answer.value["code"] == .integer(code))
        #expect(api("GET", Asked.pods).value["items"] == [])
    }

    @Test("an update must be of the last version; without a version it is of any")
    func locking() throws {
        var api = try Asked()
        let pod = api.createPod("web")
        var first = pod
        first.set("1", at: "metadata", "labels", "v")
        let written = api("PUT", "\(Asked.pods)/web", first.text)
        #expect(written.code == 200)
        var second = pod
        second.set("2", at: "metadata", "labels", "v")
        let late = api("PUT", "\(Asked.pods)/web", second.text)
        #expect(late.code == 409 && late.value["reason"] == "Conflict")
        second.set(nil, at: "metadata", "resourceVersion")
        #expect(api("PUT", "\(Asked.pods)/web", second.text).code == 200)
        let patch = api("PATCH", "\(Asked.pods)/web", #"{"metadata":{"resourceVersion":"1"}}"#, type: Asked.merge)
        #expect(patch.code == 409)
        let other = api("PATCH", "\(Asked.pods)/web", #"{"metadata":{"uid":"other"}}"#, type: Asked.merge)
        #expect(other.code == 409)
        #expect(api("PUT", "\(Asked.pods)/none", second.text).code == 400)
    }

    @Test("what changes nothing has no new version; what changes the spec has a new generation")
    func generations() throws {
        var api = try Asked()
        let path = "/apis/apps/v1/namespaces/shop/deployments"
        let body = """
            {"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":\
            {"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}
            """
        let made = api("POST", path, body).value
        let same = api("PATCH", "\(path)/web", #"{"spec":{"replicas":1}}"#, type: Asked.merge).value
        #expect(same == made)
        let labelled = api("PATCH", "\(path)/web", #"{"metadata":{"labels":{"x":"y"}}}"#, type: Asked.merge).value
        #expect(labelled.at("metadata", "generation") == 1 && labelled.resourceVersion != made.resourceVersion)
        let scaled = api("PATCH", "\(path)/web", #"{"spec":{"replicas":3}}"#, type: Asked.merge).value
        #expect(scaled.at("metadata", "generation") == 2)
        let fixed = api("PATCH", "\(path)/web", #"{"spec":{"selector":{"matchLabels":{"a":"c"}}}}"#, type: Asked.merge)
        #expect(fixed.code == 422)
    }

    @Test("the status is written by its own path, and nothing else is")
    func status() throws {
        var api = try Asked()
        _ = api.createPod("web")
        let change = #"{"metadata":{"annotations":{"a":"1"}},"spec":{"nodeName":"n9"},"status":{"phase":"Running"}}"#
        let plain = api("PATCH", "\(Asked.pods)/web", #"{"status":{"phase":"Running"}}"#, type: Asked.merge).value
        #expect(plain.at("status", "phase") == "Pending")
        let own = api("PATCH", "\(Asked.pods)/web/status", change, type: Asked.strategic).value
        #expect(own.at("status", "phase") == "Running" && own.annotations == ["a": "1"])
        #expect(own.at("spec", "nodeName") == nil)
        let entry = own.at("metadata", "managedFields")?.list?.last
        #expect(entry?["subresource"] == "status")
        // Of a kind that is none of Kubernetes's own the metadata stays, too.
        let path = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications"
        #expect(api("POST", path, #"{"metadata":{"name":"p"},"spec":{},"status":{"x":1}}"#).value["status"] == nil)
        let foreign = api(
            "PATCH", "\(path)/p/status", #"{"metadata":{"labels":{"a":"1"}},"status":{"ok":true}}"#, type: Asked.merge
        ).value
        #expect(foreign.labels == [:] && foreign["status"] == ["ok": true])
        #expect(api("GET", "/api/v1/namespaces/shop/configmaps/kube/status").code == 404)
    }

    @Test("a dry run answers as if, and leaves nothing")
    func dryRun() throws {
        var api = try Asked()
        let before = api.cluster.store.version
        let pod = #"{"metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#
        #expect(api("POST", "\(Asked.pods)?dryRun=All", pod).code == 201)
        #expect(api("GET", "\(Asked.pods)/web").code == 404)
        #expect(api("POST", "\(Asked.pods)?dryRun=Some", pod).code == 400)
        #expect(api.cluster.store.version == before)
        _ = api.createPod("web")
        #expect(api("DELETE", "\(Asked.pods)/web?dryRun=All").code == 200)
        #expect(
            api("PATCH", "\(Asked.pods)/web?dryRun=All", #"{"metadata":{"labels":{"z":"1"}}}"#, type: Asked.merge).value
                .labels["z"] == "1")
        #expect(api("GET", "\(Asked.pods)/web").value.labels == ["app": "web"])
    }

    @Test("server-side apply by the API: made, applied again, in conflict, forced")
    func apply() throws {
        var api = try Asked()
        let path = "/api/v1/namespaces/shop/configmaps/c"
        func config(_ data: String) -> String {
            #"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":\#(data)}"#
        }
        #expect(api("PATCH", path, config("{}"), type: Asked.apply).code == 400)
        #expect(api("PATCH", "\(path)?fieldManager=a", config(#"{"x":"1"}"#), type: Asked.apply).code == 201)
        let again = api(
            "PATCH", "\(path)?fieldManager=a",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  y: \"1\"\n", type: Asked.apply)
        #expect(again.code == 200 && again.value["data"] == ["y": "1"])
        let conflict = api("PATCH", "\(path)?fieldManager=b", config(#"{"y":"2"}"#), type: Asked.apply)
        #expect(conflict.code == 409)
        #expect(conflict.value["message"] == "Apply failed with 1 conflict: conflict with \"a\": .data.y")
        #expect(conflict.value.at("details", "causes")?.list?.first?["reason"] == "FieldManagerConflict")
        let forced = api("PATCH", "\(path)?fieldManager=b&force=true", config(#"{"y":"2"}"#), type: Asked.apply)
        #expect(forced.value["data"] == ["y": "2"])
        let same = api("PATCH", "\(path)?fieldManager=b", config(#"{"y":"2"}"#), type: Asked.apply)
        #expect(same.value == forced.value)
    }

    @Test("patches that do not fit are refused as a server does")
    func badPatches() throws {
        var api = try Asked()
        _ = api.createPod("web")
        let path = "\(Asked.pods)/web"
        #expect(
            api("PATCH", path, #"[{"op":"test","path":"/metadata/name","value":"x"}]"#, type: Asked.steps).code == 422)
        #expect(api("PATCH", path, #"[{"op":"nothing"}]"#, type: Asked.steps).code == 400)
        #expect(api("PATCH", path, "{}", type: "text/plain").code == 415)
        #expect(api("PATCH", path, #"{"metadata":{"name":"x"}}"#, type: Asked.merge).code == 400)
        let own = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries"
        _ = api("POST", own, #"{"metadata":{"name":"e"}}"#)
        #expect(api("PATCH", "\(own)/e", "{}", type: Asked.strategic).code == 415)
        #expect(api("PATCH", "\(own)/none", "{}", type: Asked.merge).code == 404)
    }

    @Test("finalizers keep an object until the last is gone")
    func finalizers() throws {
        var api = try Asked()
        let maps = "/api/v1/namespaces/shop/configmaps"
        _ = api("POST", maps, #"{"metadata":{"name":"c","finalizers":["a/b"]}}"#)
        let marked = api("DELETE", "\(maps)/c").value
        #expect(marked.isBeingDeleted)
        #expect(api("DELETE", "\(maps)/c").value.resourceVersion == marked.resourceVersion)
        let gone = api("PATCH", "\(maps)/c", #"{"metadata":{"finalizers":null}}"#, type: Asked.merge)
        #expect(gone.code == 200)
        #expect(api("GET", "\(maps)/c").code == 404)
        #expect(api("DELETE", "\(maps)/c").code == 404)
    }

    @Test("a namespace goes with all that is in it, and not before")
    func namespaces() throws {
        var api = try Asked()
        _ = api.createPod("web")
        _ = api("POST", "/api/v1/namespaces/shop/configmaps", #"{"metadata":{"name":"c","finalizers":["a/b"]}}"#)
        let ending = api("DELETE", "/api/v1/namespaces/shop").value
        #expect(ending.at("status", "phase") == "Terminating")
        #expect(api("GET", "\(Asked.pods)/web").code == 404)
        #expect(api.createPod("late")["reason"] == "Forbidden")
        _ = api("PATCH", "/api/v1/namespaces/shop/configmaps/c", #"{"metadata":{"finalizers":[]}}"#, type: Asked.merge)
        #expect(api("GET", "/api/v1/namespaces/shop").code == 404)
    }

    @Test("deleting asks for the object that the client means")
    func preconditions() throws {
        var api = try Asked()
        let pod = api.createPod("web")
        #expect(api("DELETE", "\(Asked.pods)/web", #"{"preconditions":{"uid":"other"}}"#).code == 409)
        #expect(api("DELETE", "\(Asked.pods)/web", #"{"preconditions":{"resourceVersion":"1"}}"#).code == 409)
        let gone = api("DELETE", "\(Asked.pods)/web", #"{"preconditions":{"uid":"\#(pod.uid)"}}"#).value
        #expect(gone["status"] == "Success" && gone.at("details", "uid") == .string(pod.uid))
        for name in ["a", "b", "c"] { _ = api.createPod(name) }
        #expect(api("DELETE", "\(Asked.pods)?labelSelector=app%20in%20(a,b)").value["items"]?.list?.count == 2)
        #expect(api("GET", Asked.pods).value["items"]?.list?.map(\.name) == ["c"])
    }

    @Test("tables have the columns of their kind, and rows with metadata")
    func tables() throws {
        var api = try Asked()
        _ = api.createPod("web", #","nodeName":"n1""#)
        api.now += 3725
        let table = api("GET", Asked.pods, accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
            .value
        #expect(table["kind"] == "Table")
        #expect(
            table["columnDefinitions"]?.list?.filter { $0["priority"] == 0 }.compactMap { $0["name"]?.string }
                == ["Name", "Ready", "Status", "Restarts", "Age"])
        let row = table["rows"]?.list?.first
        #expect(row?["cells"]?.list?.prefix(5) == ["web", "0/1", "Pending", "0", "62m"])
        #expect(row?.at("object", "kind") == "PartialObjectMetadata")
        #expect(api("GET", Asked.pods, accept: "application/vnd.kubernetes.protobuf").code == 406)
        let metadata = api(
            "GET", Asked.pods, accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        ).value
        #expect(metadata["items"]?.list?.first?["spec"] == nil && metadata["items"]?.list?.first?.name == "web")
    }

    @Test("a definition brings its kind, with columns of its own, and takes it along")
    func definitions() throws {
        var api = try Asked()
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        let body = """
            {"metadata":{"name":"birds.zoo.io"},"spec":{"group":"zoo.io","scope":"Namespaced",\
            "names":{"plural":"birds","kind":"Bird","shortNames":["bd"]},"versions":[{"name":"v1","served":true,\
            "storage":true,"schema":{"openAPIV3Schema":{"type":"object"}},"subresources":{"status":{}},\
            "additionalPrinterColumns":[{"name":"Ready","type":"string",\
            "jsonPath":".status.conditions[?(@.type==\\"Ready\\")].status"},{"name":"Age","type":"date",\
            "jsonPath":".metadata.creationTimestamp"}]}]}}
            """
        let made = api("POST", path, body)
        #expect(made.code == 201, "\(made.value.text)")
        #expect(made.value.at("status", "conditions")?.list?.contains { $0["type"] == "Established" } == true)
        #expect(api("GET", "/apis/zoo.io/v1").value["resources"]?.list?.first?["kind"] == "Bird")
        let birds = "/apis/zoo.io/v1/namespaces/shop/birds"
        #expect(api("POST", birds, #"{"kind":"Bird","apiVersion":"zoo.io/v1","metadata":{"name":"apus"}}"#).code == 201)
        _ = api(
            "PATCH", "\(birds)/apus/status", #"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
            type: Asked.merge)
        let table = api("GET", birds, accept: "application/json;as=Table;v=v1;g=meta.k8s.io").value
        #expect(table["rows"]?.list?.first?["cells"] == ["apus", "True", "0s"])
        #expect(api("POST", path, #"{"metadata":{"name":"x"},"spec":{"group":"g","names":{}}}"#).code == 422)
        #expect(api("DELETE", "\(path)/birds.zoo.io").code == 200)
        #expect(api("GET", birds).code == 404)
    }

    @Test("discovery names groups, kinds and subresources, in both forms")
    func discovery() throws {
        var api = try Asked()
        #expect(api("GET", "/api").value["versions"] == ["v1"])
        let groups = api("GET", "/apis").value["groups"]?.list ?? []
        let security = groups.first { $0["name"] == "security.istio.io" }
        #expect(security?.at("preferredVersion", "groupVersion") == "security.istio.io/v1")
        let core = api("GET", "/api/v1").value["resources"]?.list ?? []
        let names = Set(core.compactMap { $0["name"]?.string })
        #expect(names.isSuperset(of: ["pods", "pods/status", "serviceaccounts/token"]))
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        let all = api("GET", "/apis", accept: accept).value
        #expect(all["kind"] == "APIGroupDiscoveryList")
        let apps = all["items"]?.list?.first { $0.name == "apps" }
        let deployment = apps?["versions"]?.list?.first?["resources"]?.list?.first { $0["resource"] == "deployments" }
        #expect(deployment?.at("responseKind", "kind") == "Deployment")
        #expect(deployment?["subresources"]?.list?.first?["subresource"] == "status")
        #expect(api("GET", "/apis/none/v1").code == 404)
        #expect(api("GET", "/api/v1/namespaces/shop/birds").code == 404)
        #expect(api("POST", "/apis").code == 405)
        let document = api("GET", "/openapi/v3/apis/apps/v1").value
        #expect(document["paths"]?["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]?["patch"] != nil)
    }
}
