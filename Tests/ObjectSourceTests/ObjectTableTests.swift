import Testing

@testable import ObjectSource

@Suite("The objects of a kind in a snapshot")
struct ObjectTableTests {
    private func name(_ index: Int) -> ObjectName { ObjectName(namespace: "shop", name: "p\(index)") }
    private func pod(_ index: Int, node: String = "n1") -> Pod {
        Pod(metadata: ObjectMeta(name: "p\(index)", namespace: "shop"), spec: PodSpec(nodeName: node))
    }
    private func table(_ count: Int) -> PodTable {
        var table = PodTable()
        for index in 0..<count { table[name(index)] = pod(index) }
        return table
    }

    @Test("a later state knows what was changed on the way to it, an earlier one does not")
    func changes() {
        let before = table(100)
        var after = before
        #expect(after.changes(since: before) == [])
        after[name(3)] = pod(3, node: "n2")
        after[name(4)] = nil
        after[name(200)] = pod(200)
        after[name(200)] = nil
        #expect(after.changes(since: before) == [name(3), name(4), name(200)])
        #expect(after.difference(from: before) == [name(3), name(4)])
        #expect(before.difference(from: after) == [name(3), name(4)])
        #expect(before.changes(since: after) == nil)
        #expect(before[name(3)]?.spec.nodeName == "n1" && before.count == 100 && after.count == 99)
        #expect(after.removeValue(forKey: name(300)) == nil && after.changes(since: before)?.count == 3)
    }

    @Test("states that went different ways, or are far apart, are compared as a whole")
    func branches() {
        let base = table(10)
        var (one, other) = (base, base)
        one[name(1)] = pod(1, node: "one")
        other[name(2)] = pod(2, node: "other")
        #expect(one.changes(since: base) == [name(1)])
        #expect(other.changes(since: base) == nil && other.changes(since: one) == nil)
        #expect(one != other && other != base)
        other[name(2)] = pod(2)
        #expect(other == base && base == other)

        var far = one
        for _ in 0..<5000 { far[name(1)] = pod(1, node: "one") }
        #expect(far.changes(since: one) == nil)
        #expect(far == one && far.difference(from: one) == [])
        #expect(one.difference(from: other) == [name(1)])
        #expect(other.filter { $0.key == name(5) }.difference(from: one).count == 9)
        far[name(1)] = pod(1, node: "far")
        #expect(far != one)
    }

    @Test("it is read like a dictionary")
    func reading() {
        let table: PodTable = [name(1): pod(1), name(2): pod(2)]
        #expect(!table.isEmpty && Set(table.keys) == [name(1), name(2)] && table.values.count == 2)
        var names: Set<ObjectName> = []
        for (name, pod) in table where pod.name == name { names.insert(name) }
        #expect(names.count == 2)
        var changed = table
        changed[name(1)]?.spec.nodeName = "elsewhere"
        #expect(changed[name(1)]?.spec.nodeName == "elsewhere" && changed != table)
        #expect(changed.changes(since: table) == [name(1)])
    }

    @Test("names are known by namespace, whatever came and went")
    func namespaces() {
        var table = table(3)
        let other = ObjectName(namespace: "other", name: "p1")
        table[other] = pod(1)
        table[name(1)] = pod(1, node: "n2")
        table[name(2)] = nil
        table[name(9)] = nil
        #expect(Set(table.names(in: "shop")) == [name(0), name(1)] && Array(table.names(in: "other")) == [other])
        #expect(Set(table.allNames) == Set(table.keys) && Array(table.names(in: "none")).isEmpty)
        let copy = table
        table.removeValue(forKey: other)
        #expect(Array(table.names(in: "other")).isEmpty && Array(copy.names(in: "other")) == [other])
        let filtered = copy.filter { $0.key.name == "p1" }
        #expect(Set(filtered.allNames) == [name(1), other] && filtered.count == 2)
        let literal: PodTable = [name(1): pod(1)]
        #expect(Array(literal.names(in: "shop")) == [name(1)])
    }
}
