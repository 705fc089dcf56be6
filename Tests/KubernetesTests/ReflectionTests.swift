import ObjectSource
import Testing

@testable import Kubernetes

@Suite("What is known of a kind")
struct ReflectionTests {
    private func item(_ name: String, _ version: UInt64) -> Reflection.Item {
        Reflection.Item(
            name: ObjectName(namespace: "shop", name: name), version: version,
            content: .success(.pod(Pod(metadata: ObjectMeta(name: name, namespace: "shop", uid: "\(version)")))))
    }

    private func words(_ change: Reflection.Change?) -> String {
        switch change {
        case nil: "nothing"
        case .set(let item): "set \(item.name.name)@\(item.version)"
        case .remove(let name): "remove \(name.name)"
        case .replace(let items):
            "all " + items.values.map { "\($0.name.name)@\($0.version)" }.sorted().joined(separator: " ")
        }
    }

    private func synced() -> Reflection {
        var reflection = Reflection()
        _ = reflection.listed([item("a", 1), item("b", 2)], version: "10", next: nil)
        return reflection
    }

    @Test("a list counts when its last page is there, and the watch goes on from its version")
    func pages() {
        var reflection = Reflection()
        #expect(reflection.step == .list(after: nil))
        #expect(words(reflection.listed([item("a", 1)], version: "10", next: "t1")) == "nothing")
        #expect(!reflection.isSynced)
        #expect(reflection.step == .list(after: "t1"))
        #expect(words(reflection.listed([item("b", 2)], version: "10", next: nil)) == "all a@1 b@2")
        #expect(reflection.isSynced)
        #expect(reflection.step == .watch(from: "10"))
    }

    @Test("a page that is no longer kept begins the list anew, and what was known stands until the new one is whole")
    func expiredPage() {
        var reflection = synced()
        reflection.relist()
        #expect(words(reflection.listed([item("a", 1)], version: "20", next: "t")) == "nothing")
        reflection.failed(KubernetesError(.expired, "gone", status: 410))
        #expect(reflection.step == .list(after: nil))
        #expect(reflection.isSynced)
        #expect(words(reflection.listed([item("b", 2), item("c", 15)], version: "21", next: nil)) == "all b@2 c@15")
        #expect(reflection.step == .watch(from: "21"))
    }

    @Test("a page that was not answered is asked for again")
    func lostPage() {
        var reflection = Reflection()
        _ = reflection.listed([item("a", 1)], version: "10", next: "t")
        reflection.failed(KubernetesError(.unreachable, "away"))
        #expect(reflection.step == .list(after: "t"))
        #expect(words(reflection.listed([item("b", 2)], version: "10", next: nil)) == "all a@1 b@2")
    }

    @Test("events in order change, twice or too late they do not")
    func events() {
        var reflection = synced()
        func event(_ kind: WatchEvent.Kind, _ name: String, _ version: UInt64) -> String {
            words(reflection.received(kind, item(name, version), version: "\(version)"))
        }
        #expect(event(.modified, "a", 11) == "set a@11")
        #expect(event(.modified, "a", 11) == "nothing", "twice")
        #expect(event(.added, "c", 13) == "set c@13")
        #expect(event(.modified, "b", 12) == "set b@12", "late, and of another object")
        #expect(reflection.step == .watch(from: "13"), "it does not go back")
        #expect(event(.modified, "a", 9) == "nothing", "older than what is known")
        #expect(event(.deleted, "a", 14) == "remove a")
        #expect(event(.modified, "a", 12) == "nothing", "from before its end")
        #expect(event(.deleted, "a", 14) == "nothing", "twice")
        #expect(event(.added, "a", 16) == "set a@16", "a new one of the name")
        #expect(event(.deleted, "a", 14) == "nothing", "the end of the one before")
        reflection.bookmark(version: "40")
        #expect(reflection.step == .watch(from: "40"))
    }

    @Test("without numbers for versions everything counts, in the order it comes")
    func words() {
        var reflection = Reflection()
        _ = reflection.listed([item("a", 0)], version: "x", next: nil)
        #expect(words(reflection.received(.modified, item("a", 0), version: "y")) == "set a@0")
        #expect(reflection.step == .watch(from: "y"))
        #expect(words(reflection.received(.deleted, item("a", 0), version: "z")) == "remove a")
    }

    @Test("a version that is no longer kept leads to a list; a server that is away does not")
    func failures() {
        var reflection = synced()
        for _ in 0..<20 { reflection.failed(KubernetesError(.unreachable, "away")) }
        #expect(reflection.step == .watch(from: "10"))
        reflection.failed(KubernetesError(.expired, "gone", status: 410))
        #expect(reflection.step == .list(after: nil))
        #expect(reflection.isSynced)
        reflection = synced()
        for _ in 0..<(Reflection.patience - 1) { reflection.failed(KubernetesError(.serverError, "no", status: 504)) }
        #expect(reflection.step == .watch(from: "10"))
        reflection.failed(KubernetesError(.serverError, "too large resource version", status: 504))
        #expect(reflection.step == .list(after: nil))
    }

    @Test("ends are remembered up to a bound")
    func tombstones() {
        var reflection = Reflection()
        let many = (0..<(Reflection.maximumTombstones + 10)).map { item("p\($0)", 1) }
        _ = reflection.listed(many, version: "10", next: nil)
        for (index, one) in many.enumerated() {
            var ended = one
            ended.version = UInt64(11 + index)
            #expect(words(reflection.received(.deleted, ended, version: "\(11 + index)")) == "remove \(one.name.name)")
        }
        #expect(reflection.tombstoneCount <= Reflection.maximumTombstones)
    }
}

@Suite("What reflectors know, as one snapshot")
struct ClusterContentsTests {
    private func name(_ name: String) -> ObjectName { ObjectName(namespace: "shop", name: name) }

    private func policy(_ text: String, _ name: String = "p") -> Reflection.Item {
        Reflection.Item(
            name: self.name(name), version: 1,
            content: text.isEmpty
                ? .failure(ObjectProblem(file: "AuthorizationPolicy shop/\(name)", message: "wrong"))
                : .success(
                    .authorizationPolicy(
                        AuthorizationPolicy(
                            metadata: ObjectMeta(name: name, namespace: "shop", labels: ["v": text])))))
    }

    @Test("it is whole when every kind is")
    func synced() {
        var contents = ClusterContents(kinds: [.pod, .authorizationPolicy])
        #expect(!contents.isSynced)
        #expect(contents.apply(.replace([:]), of: .pod) == true)
        #expect(!contents.isSynced)
        #expect(contents.apply(.replace([name("p"): policy("1")]), of: .authorizationPolicy) == true)
        #expect(contents.isSynced)
        #expect(contents.apply(.replace([name("p"): policy("1")]), of: .authorizationPolicy) == false, "the same again")
        #expect(contents.apply(.replace([:]), of: .authorizationPolicy) == true)
        #expect(contents.snapshot.objectCount == 0)
    }

    @Test("an object that became unreadable stays as it was, with its problem, through lists and events, to its end")
    func unreadable() {
        var contents = ClusterContents(kinds: [.authorizationPolicy])
        _ = contents.apply(.replace([name("p"): policy("1")]), of: .authorizationPolicy)
        #expect(contents.apply(.set(policy("")), of: .authorizationPolicy) == true)
        #expect(contents.snapshot.authorizationPolicies[name("p")]?.metadata.labels["v"] == "1")
        #expect(contents.snapshot.problems.map(\.description) == ["AuthorizationPolicy shop/p: wrong"])
        #expect(contents.apply(.replace([name("p"): policy("")]), of: .authorizationPolicy) == false)
        #expect(contents.snapshot.authorizationPolicies.count == 1)
        #expect(contents.apply(.set(policy("2")), of: .authorizationPolicy) == true)
        #expect(contents.snapshot.problems.isEmpty)
        #expect(contents.snapshot.authorizationPolicies[name("p")]?.metadata.labels["v"] == "2")
        _ = contents.apply(.set(policy("")), of: .authorizationPolicy)
        #expect(contents.apply(.remove(name("p")), of: .authorizationPolicy) == true)
        #expect(contents.snapshot.problems.isEmpty && contents.snapshot.authorizationPolicies.isEmpty)
    }
}
