import Kubernetes
import Testing

@testable import TestAPIServer

@Suite("Patches as values")
struct PatchTests {
    @Test(
        "JSON merge patch, the examples of RFC 7386",
        arguments: [
            (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
            (#"{"a":"b"}"#, #"{"a":null}"#, #"{}"#), (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#),
            (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#),
            (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
            (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#), (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#),
            (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#), (#"{"a":"foo"}"#, "null", "null"),
            (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#), ("[1,2]", #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
            ("{}", #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
        ])
    func merge(value: String, patch: String, result: String) throws {
        #expect(try MergePatch.apply(json(patch), to: json(value)) == json(result))
    }

    @Test(
        "JSON patch",
        arguments: [
            (#"{"a":1}"#, #"[{"op":"add","path":"/b","value":2}]"#, #"{"a":1,"b":2}"#),
            (#"{"a":[1,3]}"#, #"[{"op":"add","path":"/a/1","value":2}]"#, #"{"a":[1,2,3]}"#),
            (#"{"a":[1]}"#, #"[{"op":"add","path":"/a/-","value":2}]"#, #"{"a":[1,2]}"#),
            (#"{"a":[1,2]}"#, #"[{"op":"remove","path":"/a/0"}]"#, #"{"a":[2]}"#),
            (#"{"a":[1,2]}"#, #"[{"op":"replace","path":"/a/1","value":{"x":null}}]"#, #"{"a":[1,{"x":null}]}"#),
            (#"{"a/b":{"c~d":1}}"#, #"[{"op":"replace","path":"/a~1b/c~0d","value":2}]"#, #"{"a/b":{"c~d":2}}"#),
            (#"{"a":{"b":1}}"#, #"[{"op":"move","from":"/a/b","path":"/c"}]"#, #"{"a":{},"c":1}"#),
            (#"{"a":{"b":1}}"#, #"[{"op":"copy","from":"/a","path":"/c"}]"#, #"{"a":{"b":1},"c":{"b":1}}"#),
            (#"{"a":1}"#, #"[{"op":"test","path":"/a","value":1},{"op":"remove","path":"/a"}]"#, "{}"),
            (
                #"{"a":1}"#, #"[{"op":"test","path":"/b","value":null},{"op":"add","path":"/b","value":2}]"#,
                #"{"a":1,"b":2}"#
            ),
            (#"{"a":1}"#, #"[{"op":"replace","path":"","value":[]}]"#, "[]"),
        ])
    func steps(value: String, patch: String, result: String) throws {
        #expect(try JSONPatch(json(patch)).apply(to: json(value)) == json(result))
    }

    @Test(
        "a JSON patch that does not fit is told apart from one that is none",
        arguments: [
            (#"[{"op":"test","path":"/a","value":2}]"#, false), (#"[{"op":"remove","path":"/x"}]"#, false),
            (#"[{"op":"replace","path":"/x","value":1}]"#, false), (#"[{"op":"add","path":"/x/y","value":1}]"#, false),
            (#"[{"op":"add","path":"/l/7","value":1}]"#, false), (#"[{"op":"move","from":"/x","path":"/y"}]"#, false),
            (#"{"op":"remove"}"#, true), (#"[{"op":"jump","path":"/a"}]"#, true),
            (#"[{"op":"add","path":"/a"}]"#, true),
            (#"[{"op":"remove","path":"a"}]"#, true), (#"[{"path":"/a"}]"#, true),
            (#"[{"op":"copy","path":"/a"}]"#, true),
        ])
    func misfits(patch: String, isMalformed: Bool) throws {
        let value = try json(#"{"a":1,"l":[1]}"#)
        let problem = #expect(throws: JSONPatch.Problem.self) { _ = try JSONPatch(json(patch)).apply(to: value) }
        #expect(problem?.isMalformed == isMalformed)
    }

    @Test(
        "strategic merge patch",
        arguments: [
            // Maps are merged, null removes, as in a merge patch.
            (
                #"{"metadata":{"labels":{"a":"1"}}}"#, #"{"metadata":{"labels":{"b":"2","a":null}}}"#,
                #"{"metadata":{"labels":{"b":"2"}}}"#
            ),
            // Lists with a merge key are merged by it.
            (
                #"{"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1"}]}}"#,
                #"{"spec":{"containers":[{"name":"b","image":"2"},{"name":"c","image":"3"}]}}"#,
                #"{"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"},{"name":"c","image":"3"}]}}"#
            ),
            // An element is deleted by its key, a list replaced by a word.
            (
                #"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#,
                #"{"spec":{"containers":[{"name":"a","$patch":"delete"}]}}"#, #"{"spec":{"containers":[{"name":"b"}]}}"#
            ),
            (
                #"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#,
                #"{"spec":{"containers":[{"name":"c"},{"$patch":"replace"}]}}"#,
                #"{"spec":{"containers":[{"name":"c"}]}}"#
            ),
            // Others are replaced as a whole.
            (
                #"{"spec":{"tolerations":[{"key":"a"}]}}"#, #"{"spec":{"tolerations":[{"key":"b"}]}}"#,
                #"{"spec":{"tolerations":[{"key":"b"}]}}"#
            ),
            (
                #"{"spec":{"containers":[{"name":"a","args":["1","2"]}]}}"#,
                #"{"spec":{"containers":[{"name":"a","args":["3"]}]}}"#,
                #"{"spec":{"containers":[{"name":"a","args":["3"]}]}}"#
            ),
            // Ports by their number, mounts by their path.
            (
                #"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"name":"x"}],"volumeMounts":[{"mountPath":"/a","name":"v"}]}]}}"#,
                #"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"name":"y"}],"volumeMounts":[{"mountPath":"/b","name":"v"}]}]}}"#,
                #"{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"name":"y"}],"volumeMounts":[{"mountPath":"/a","name":"v"},{"mountPath":"/b","name":"v"}]}]}}"#
            ),
            // Values of a set.
            (
                #"{"metadata":{"finalizers":["a"]}}"#, #"{"metadata":{"finalizers":["a","b"]}}"#,
                #"{"metadata":{"finalizers":["a","b"]}}"#
            ),
            (
                #"{"metadata":{"finalizers":["a","b"]}}"#,
                #"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"]}}"#,
                #"{"metadata":{"finalizers":["b"]}}"#
            ),
            // The order that a client wants; what it does not know of stays where it was.
            (
                #"{"spec":{"containers":[{"name":"a"},{"name":"x"},{"name":"b"}]}}"#,
                #"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b","image":"2"}]}}"#,
                #"{"spec":{"containers":[{"name":"b","image":"2"},{"name":"x"},{"name":"a"}]}}"#
            ),
            // One of several alternatives.
            (
                #"{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#,
                #"{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/"},"$retainKeys":["name","hostPath"]}]}}"#,
                #"{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/"}}]}}"#
            ),
            (#"{"spec":{"a":{"x":1}}}"#, #"{"spec":{"a":{"$patch":"replace","y":2}}}"#, #"{"spec":{"a":{"y":2}}}"#),
            (#"{"spec":{"a":{"x":1},"b":1}}"#, #"{"spec":{"a":{"$patch":"delete"}}}"#, #"{"spec":{"b":1}}"#),
            (
                #"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#,
                #"{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"Other","status":"True"}]}}"#,
                #"{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"Other","status":"True"}]}}"#
            ),
        ])
    func strategic(value: String, patch: String, result: String) throws {
        #expect(try StrategicPatch(keys: podKeys).apply(json(patch), to: json(value)) == json(result))
    }

    @Test("an element without its merge key, and a word that is none, are refused")
    func strategicProblems() throws {
        let patch = StrategicPatch(keys: podKeys)
        #expect(throws: StrategicPatch.Problem.self) {
            _ = try patch.apply(json(#"{"spec":{"containers":[{"image":"x"}]}}"#), to: json("{}"))
        }
        #expect(throws: StrategicPatch.Problem.self) {
            _ = try patch.apply(json(#"{"spec":{"$patch":"forget"}}"#), to: json(#"{"spec":{}}"#))
        }
    }

    @Test("a deployment's containers are merged as a pod's are, those of a kind of strangers are not")
    func keys() throws {
        let path = ["spec", "template", "spec", "containers"]
        #expect(deploymentKeys.list(at: path) == .map(["name"]))
        #expect(deploymentKeys.list(at: path + ["ports"]) == .map(["containerPort", "protocol"]))
        #expect(ListKeys(kind: "Service", isBuiltIn: true).list(at: ["spec", "ports"]) == .map(["port", "protocol"]))
        #expect(ListKeys(kind: "Sidecar", isBuiltIn: false).list(at: path) == .atomic)
        #expect(ListKeys(kind: "Sidecar", isBuiltIn: false).list(at: ["status", "conditions"]) == .map(["type"]))
        #expect(ListKeys(kind: "ClusterRole", isBuiltIn: true).list(at: ["rules"]) == .atomic)
    }
}
