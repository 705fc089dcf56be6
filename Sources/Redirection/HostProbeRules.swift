import Addressing
import LinuxNetwork
import Netlink

/// Makes a ``HostProbePlan`` hold in the network namespace that the calling thread is in. All functions block.
///
/// The rules stay when whoever made them ends, as capture does: probes go on, and the address stays nobody's.
public enum HostProbeRules {
    /// Makes the plan hold, from whatever is there; a plan without destinations leaves nothing. Doing it again changes
    /// nothing. Each table changes as a whole, and open probes are not cut by changes of who is probed.
    /// - Returns: What differed before.
    @discardableResult
    public static func apply(_ plan: HostProbePlan) throws(RedirectionError) -> [Drift] {
        try asking("cannot set up the node's rules for probes") { (nftables) throws(NetlinkError) in
            let wanted = HostProbeTable.tables(plan)
            var found: [Drift] = []
            for family in wanted.isEmpty ? families.reversed() : families {
                let table = try nftables.table(HostProbeTable.name, family)
                let differences = drift(table, wanted[family], family)
                guard !differences.isEmpty else { continue }
                found += differences
                try nftables.commit(changes(from: table, to: wanted[family], family))
            }
            return found
        }
    }

    /// Reads back what holds in the kernel.
    /// - Returns: What differs from the plan; empty when nothing does.
    public static func verify(_ plan: HostProbePlan) throws(RedirectionError) -> [Drift] {
        try asking("cannot read the node's rules for probes") { (nftables) throws(NetlinkError) in
            let wanted = HostProbeTable.tables(plan)
            var found: [Drift] = []
            for family in families {
                found += drift(try nftables.table(HostProbeTable.name, family), wanted[family], family)
            }
            return found
        }
    }

    /// The guard on bridges comes first and goes last: an exemption without it would be too wide.
    private static let families: [Nftables.Family] = [.bridge, .inet]

    private static func asking<Value>(
        _ message: String, _ body: (inout NftablesSocket) throws(NetlinkError) -> Value
    ) throws(RedirectionError) -> Value {
        do throws(NetlinkError) {
            var nftables = try NftablesSocket()
            return try body(&nftables)
        } catch {
            throw RedirectionError(error, message)
        }
    }

    private static func drift(
        _ table: Nftables.Table?, _ wanted: Nftables.Table?, _ family: Nftables.Family
    ) -> [Drift] {
        let label = "\(family) \(HostProbeTable.name)"
        guard let wanted else { return table == nil ? [] : [.hostTableUnexpected(label)] }
        guard let table else { return [.hostTableMissing(label)] }
        let sets = Set(table.sets).symmetricDifference(wanted.sets).map(\.name)
        return NftablesBackend.drift(table, wanted.chains) + Set(sets).sorted().map { .setDiffers($0) }
    }

    /// One transaction.
    private static func changes(
        from table: Nftables.Table?, to wanted: Nftables.Table?, _ family: Nftables.Family
    ) -> Nftables.Batch {
        let name = HostProbeTable.name
        var batch = Nftables.Batch(family)
        guard let wanted else {
            batch.removeTable(name)
            return batch
        }
        guard let table, fits(table, wanted) else {
            batch.removeTable(name)
            batch.addTable(name)
            for set in wanted.sets { batch.addSet(set, table: name) }
            for chain in wanted.chains {
                batch.addChain(chain, table: name)
                for rule in chain.rules { batch.addRule(rule, chain: chain.name, table: name) }
            }
            return batch
        }
        for set in wanted.sets {
            let present = table.sets.first { $0.name == set.name }?.elements ?? []
            batch.deleteElements(present.subtracting(set.elements), set: set.name, table: name)
            batch.addElements(set.elements.subtracting(present), set: set.name, table: name)
        }
        for chain in wanted.chains where !table.chains.contains(chain) {
            batch.flush(table: name, chain: chain.name)
            for rule in chain.rules { batch.addRule(rule, chain: chain.name, table: name) }
        }
        return batch
    }

    /// Whether the chains and sets are the wanted ones but for what is in them.
    private static func fits(_ table: Nftables.Table, _ wanted: Nftables.Table) -> Bool {
        func chains(_ table: Nftables.Table) -> Set<Nftables.Chain> {
            Set(table.chains.map { Nftables.Chain($0.name, $0.base) })
        }
        func sets(_ table: Nftables.Table) -> Set<Nftables.NamedSet> {
            Set(table.sets.map { Nftables.NamedSet($0.name, key: $0.key) })
        }
        return chains(table) == chains(wanted) && sets(table) == sets(wanted)
    }
}
