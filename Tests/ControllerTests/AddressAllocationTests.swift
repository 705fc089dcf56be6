import Addressing
import ObjectSource
import Testing

@testable import Controller

@Suite("Addresses for hosts that have none")
struct AddressAllocationTests {
    private typealias Address = AddressAllocation.Address

    private func entry(
        _ name: String, hosts: [String] = ["a.example"], addresses: [String] = [],
        resolution: ServiceEntry.Resolution = .dns, labels: [String: String] = [:], created: Int64 = 0,
        allocated: [ServiceEntry.AllocatedAddress] = []
    ) -> ServiceEntry {
        ServiceEntry(
            metadata: ObjectMeta(name: name, namespace: "shop", labels: labels, creationTimestamp: created),
            hosts: hosts, addresses: addresses, resolution: resolution, allocated: allocated)
    }

    private func outcome(_ entries: [ServiceEntry]) -> AddressAllocation.Outcome {
        AddressAllocation.outcome(Dictionary(uniqueKeysWithValues: entries.map { ($0.metadata.objectName, $0) }))
    }

    private func changes(_ entries: [ServiceEntry]) -> [String: [ServiceEntry.AllocatedAddress]] {
        Dictionary(uniqueKeysWithValues: outcome(entries).changes.map { ($0.key.name, $0.value) })
    }

    @Test("R30: each host gets one address of each family, of Istio's ranges, and keeps it")
    func chosen() throws {
        let both = entry("ext", hosts: ["a.example", "b.example", "a.example"])
        let list = try #require(changes([both])["ext"])
        #expect(list.map(\.host) == ["a.example", "a.example", "b.example", "b.example"])
        let v4 = try #require(CIDR("240.240.0.0/16"))
        let v6 = try #require(CIDR("2001:2::/48"))
        for (index, address) in list.enumerated() {
            let ip = try #require(IPAddress(address.value))
            #expect((index % 2 == 0 ? v4 : v6).contains(ip), "\(ip)")
        }
        #expect(Set(list.map(\.value)).count == 4)
        // As the status has it, nothing changes; one that is missing is added and the others stay.
        #expect(changes([entry("ext", hosts: both.hosts, allocated: list)]).isEmpty)
        #expect(changes([entry("ext", hosts: both.hosts, allocated: Array(list.dropFirst()))])["ext"] == list)
        // A host that is gone takes its addresses with it.
        #expect(changes([entry("ext", hosts: ["a.example"], allocated: list)])["ext"] == Array(list.prefix(2)))
    }

    @Test("R30: who has addresses of its own, or no use for them, gets none")
    func none() {
        let given = [Address("240.240.7.7", host: "a.example")]
        let entries = [
            entry("written", addresses: ["10.0.0.1"]), entry("none", resolution: .none),
            entry("off", labels: [AddressAllocation.label: "false"]), entry("wild", hosts: ["*.a.example"]),
        ]
        #expect(changes(entries).isEmpty)
        // What was chosen before goes; what somebody else put there stays.
        #expect(changes([entry("off", labels: [AddressAllocation.label: "false"], allocated: given)]) == ["off": []])
        #expect(
            changes([entry("none", resolution: .none, allocated: [Address("10.1.1.1", host: "a.example")])]).isEmpty)
        #expect(changes([entry("wild", hosts: ["*.a.example"], resolution: .dynamicDNS)])["wild"]?.count == 2)
    }

    @Test("R30: no address is given twice, and of two that have one the older keeps it")
    func unique() throws {
        let entries = (0..<2000).map { entry("e\($0)", hosts: ["h\($0).example"]) }
        let values = outcome(entries).changes.values.flatMap { $0.map(\.value) }
        #expect(values.count == 4000 && Set(values).count == 4000)
        let same = [Address("240.240.1.1", host: "a.example"), Address("2001:2::101", host: "a.example")]
        let changed = changes([entry("young", created: 9, allocated: same), entry("old", created: 5, allocated: same)])
        #expect(changed.keys.sorted() == ["young"])
        let chosen = Set((changed["young"] ?? []).map(\.value))
        #expect(chosen.count == 2 && chosen.isDisjoint(with: same.map(\.value)))
        // Of others' ranges nothing is kept.
        let foreign = [Address("10.0.0.9", host: "a.example")]
        #expect(changes([entry("x", allocated: foreign)])["x"]?.contains { $0.value == "10.0.0.9" } == false)
    }

    @Test("R30: when nothing is left, that is told and the others stay as they are")
    func exhausted() {
        let entries = [entry("all", hosts: (0..<50).map { "h\($0).example" }, created: 1), entry("more", created: 2)]
        let outcome = AddressAllocation.outcome(
            Dictionary(uniqueKeysWithValues: entries.map { ($0.metadata.objectName, $0) }), count: 50)
        #expect(outcome.exhausted == 2)
        #expect(outcome.changes.keys.map(\.name) == ["all"])
    }
}
