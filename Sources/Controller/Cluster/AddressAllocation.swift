import Addressing
import ObjectSource

/// Addresses for hosts that have none, as Istio chooses them: from ranges that are nobody's, one of each family a host. A
/// pure function of the entries, which keep their addresses in their status.
enum AddressAllocation {
    /// `false` on an entry: it gets none.
    static let label = "networking.istio.io/enable-autoallocate-ip"
    /// Of 240.240.0.0/16 and of 2001:2::/48, the first and the last apart.
    static let count: UInt32 = 65_534

    typealias Address = ServiceEntry.AllocatedAddress

    struct Outcome: Hashable {
        /// What entries should have in their status that have something else there.
        var changes: [ObjectName: [Address]] = [:]
        /// Hosts for which nothing is left.
        var exhausted = 0
    }

    static func address(_ number: UInt32, isV4: Bool) -> IPAddress {
        isV4
            ? IPAddress(v4: 0xf0f0_0000 | (number + 1))
            : IPAddress(v6High: 0x2001_0002_0000_0000, low: UInt64(number) + 1)
    }

    /// The number of an address that is one of ours.
    static func number(_ text: String) -> (number: UInt32, isV4: Bool)? {
        guard let address = IPAddress(text) else { return nil }
        let low = address.bytes.suffix(2).reduce(0) { $0 << 8 | UInt32($1) }
        guard low >= 1, low <= count, Self.address(low - 1, isV4: address.isV4) == address else { return nil }
        return (low - 1, address.isV4)
    }

    static func hosts(_ entry: ServiceEntry) -> [String] {
        guard entry.addresses.isEmpty, entry.resolution != .none, entry.metadata.labels[label] != "false",
            !entry.metadata.isBeingDeleted
        else { return [] }
        var seen: Set<String> = []
        return entry.hosts.filter { host in
            (!host.hasPrefix("*") || entry.resolution == .dynamicDNS) && seen.insert(host).inserted
        }
    }

    /// - Parameter count: How many addresses of each family there are.
    static func outcome(_ entries: [ObjectName: ServiceEntry], count: UInt32 = Self.count) -> Outcome {
        // Of two that have one address the older one keeps it.
        let ordered = entries.values.sorted { left, right in
            (left.metadata.creationTimestamp ?? .max, left.metadata.objectName)
                < (right.metadata.creationTimestamp ?? .max, right.metadata.objectName)
        }
        var taken = [Set<UInt32>(), Set<UInt32>()]
        var kept: [ObjectName: [String: [Bool: UInt32]]] = [:]
        for entry in ordered {
            let hosts = Set(hosts(entry))
            for address in entry.allocated where hosts.contains(address.host) {
                guard let (number, isV4) = number(address.value),
                    kept[entry.metadata.objectName]?[address.host]?[isV4] == nil,
                    taken[isV4 ? 0 : 1].insert(number).inserted
                else { continue }
                kept[entry.metadata.objectName, default: [:]][address.host, default: [:]][isV4] = number
            }
        }
        var outcome = Outcome()
        for entry in ordered {
            let name = entry.metadata.objectName
            var list: [Address] = []
            for host in hosts(entry) {
                for isV4 in [true, false] {
                    guard
                        let number = kept[name]?[host]?[isV4]
                            ?? free("\(name)/\(host)", of: count, &taken[isV4 ? 0 : 1])
                    else {
                        outcome.exhausted += 1
                        continue
                    }
                    list.append(Address("\(address(number, isV4: isV4))", host: host))
                }
            }
            // What others have put there is theirs, where no host here asks for an address.
            let isOurs = !list.isEmpty || entry.allocated.contains { number($0.value) != nil }
            if isOurs, list != entry.allocated { outcome.changes[name] = list }
        }
        return outcome
    }

    /// Begins at a number that the name gives, so that an entry that comes again mostly has its old address.
    private static func free(_ name: String, of count: UInt32, _ taken: inout Set<UInt32>) -> UInt32? {
        guard taken.count < count else { return nil }
        // FNV-1a.
        let hash = name.utf8.reduce(0x811c_9dc5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        var number = hash % count
        while !taken.insert(number).inserted { number = (number + 1) % count }
        return number
    }
}
