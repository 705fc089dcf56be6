import Kubernetes
import Testing

@testable import TestAPIServer

@Suite("Who owns a field")
struct OwnershipTests {
    private func owner(_ manager: String, _ operation: String = "Apply") -> FieldOwners.Owner {
        FieldOwners.Owner(manager: manager, operation: operation, subresource: "")
    }

    private func apply(
        _ owners: inout FieldOwners, _ config: String, _ live: JSON, by manager: String, force: Bool = false
    ) throws -> JSON {
        try owners.apply(
            json(config), to: live, by: owner(manager), isForced: force, podKeys, apiVersion: "v1", time: "t")
    }

    @Test("the fields of an object in the form of managedFields, and back")
    func fields() throws {
        let object = try json(
            """
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","uid":"u","labels":{"a":"1"},"finalizers":["f"]},
             "spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}],"args":["x"]}],
             "nodeSelector":{"a":"b"},"tolerations":[]}}
            """)
        let set = FieldSet(of: object, podKeys)
        let expected = try json(
            #"""
            {"f:metadata":{"f:labels":{"f:a":{}},"f:finalizers":{"v:\"f\"":{}}},
             "f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:image":{},"f:args":{},
             "f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},
             "f:nodeSelector":{},"f:tolerations":{}}}
            """#)
        #expect(set.fieldsV1 == expected)
        #expect(FieldSet(fieldsV1: expected) == set)
        #expect(set.paths.contains(#".spec.containers[name="c"].image"#))
        #expect(set.paths.contains(#".metadata.finalizers[="f"]"#))
    }

    @Test("two who apply own what each says; what one no longer says goes, unless the other says it")
    func two() throws {
        var owners = FieldOwners(nil)
        var live = try json(#"{"metadata":{"name":"x"}}"#)
        live = try apply(&owners, #"{"metadata":{"labels":{"a":"1","b":"1"}}}"#, live, by: "one")
        live = try apply(&owners, #"{"metadata":{"labels":{"b":"1","c":"1"}}}"#, live, by: "two")
        #expect(live.labels == ["a": "1", "b": "1", "c": "1"])
        live = try apply(&owners, #"{"metadata":{"labels":{}}}"#, live, by: "one")
        #expect(live.labels == ["b": "1", "c": "1"])
        live = try apply(&owners, #"{"metadata":{"annotations":{"n":"1"}}}"#, live, by: "two")
        #expect(live.labels == [:])
        #expect(live.annotations == ["n": "1"])
    }

    @Test("a field that another manager set to something else is a conflict, and taken over by force")
    func conflict() throws {
        var owners = FieldOwners(nil)
        var live = try apply(&owners, #"{"spec":{"containers":[{"name":"c","image":"1"}]}}"#, [:], by: "one")
        let before = owners
        let conflicts = #expect(throws: FieldOwners.Conflicts.self) {
            try apply(&owners, #"{"spec":{"containers":[{"name":"c","image":"2"}]}}"#, live, by: "two")
        }
        #expect(conflicts?.list.map(\.owner.manager) == ["one"])
        #expect(conflicts?.list.first?.fields == [#".spec.containers[name="c"].image"#])
        owners = before
        live = try apply(&owners, #"{"spec":{"containers":[{"name":"c","image":"2"}]}}"#, live, by: "two", force: true)
        #expect(try live == json(#"{"spec":{"containers":[{"name":"c","image":"2"}]}}"#))
        // The same value is nobody's conflict: both own it then.
        live = try apply(&owners, #"{"spec":{"containers":[{"name":"c","image":"2"}]}}"#, live, by: "one")
        live = try apply(&owners, "{}", live, by: "two")
        #expect(try live == json(#"{"spec":{"containers":[{"name":"c","image":"2"}]}}"#))
        live = try apply(&owners, "{}", live, by: "one")
        #expect(live.at("spec", "containers")?.list ?? [] == [])
    }

    @Test("an update takes what it changes from all others, and what it removes is nobody's")
    func update() throws {
        var owners = FieldOwners(nil)
        let live = try apply(&owners, #"{"metadata":{"labels":{"a":"1","b":"1","c":"1"}}}"#, [:], by: "one")
        let changed = try json(#"{"metadata":{"labels":{"a":"1","b":"2","d":"1"}}}"#)
        owners.update(by: owner("editor", "Update"), from: live, to: changed, podKeys, apiVersion: "v1", time: "t2")
        let fields = owners.managedFields?.list ?? []
        #expect(fields.map { $0["manager"]?.string } == ["one", "editor"])
        #expect(
            try fields.map { $0["fieldsV1"] } == [
                json(#"{"f:metadata":{"f:labels":{"f:a":{}}}}"#),
                json(#"{"f:metadata":{"f:labels":{"f:b":{},"f:d":{}}}}"#),
            ])
        #expect(FieldOwners(owners.managedFields) == owners)
        // Nothing changed: nothing is owned anew.
        let same = owners
        owners.update(by: owner("idle", "Update"), from: changed, to: changed, podKeys, apiVersion: "v1", time: "t3")
        #expect(owners == same)
    }

    @Test("an element of a list goes with the last who says it")
    func elements() throws {
        var owners = FieldOwners(nil)
        var live = try apply(&owners, #"{"spec":{"containers":[{"name":"a","image":"1"}]}}"#, [:], by: "one")
        live = try apply(&owners, #"{"spec":{"containers":[{"name":"b","image":"1"}]}}"#, live, by: "two")
        #expect(live.at("spec", "containers")?.list?.count == 2)
        live = try apply(&owners, #"{"spec":{"containers":[{"name":"c","image":"1"}]}}"#, live, by: "one")
        #expect(live.at("spec", "containers")?.list?.compactMap { $0["name"]?.string } == ["b", "c"])
    }
}
