import Glibc

/// The nf_tables side of a network namespace: transactions, and reading back what is there.
public struct NftablesSocket: ~Copyable {
    private var socket: NetlinkSocket

    public init() throws(NetlinkError) {
        socket = try NetlinkSocket(.netfilter)
    }

    /// Applies all changes, or none: one nf_tables transaction. While something else is in the way of it (what is to go is
    /// in use, the tables change under it) it is tried again a few times, with pauses that grow.
    public mutating func commit(_ batch: Nftables.Batch) throws(NetlinkError) {
        guard !batch.steps.isEmpty else { return }
        let frame = NftablesWire.header(family: 0, resource: 10)
        var messages = [NetlinkSocket.Message(type: NftablesWire.batchBegin, body: frame)]
        messages += batch.steps.map(\.message)
        messages.append(NetlinkSocket.Message(type: NftablesWire.batchEnd, body: frame))
        let names = batch.steps.map(\.name)
        var attempt = 0
        while true {
            do throws(NetlinkError) {
                return try socket.transaction(messages) { index in
                    names.indices.contains(index - 1) ? names[index - 1] : "nf_tables transaction"
                }
            } catch {
                attempt += 1
                guard Self.passing.contains(error.code), attempt < NetlinkSocket.mostAttempts else { throw error }
                NetlinkSocket.pause(before: attempt)
            }
        }
    }

    /// Refusals of a whole transaction that another moment may not bring.
    private static let passing: Set<CInt> = [EBUSY, EAGAIN, EINTR, ERESTART]

    /// The table of that name and family with all its chains, rules and sets; `nil` when there is none.
    public mutating func table(
        _ name: String, _ family: Nftables.Family = .inet
    ) throws(NetlinkError) -> Nftables.Table? {
        guard var table = try tables(family).first(where: { $0.name == name }) else { return nil }
        table.chains = try chains(of: name, family)
        for (chain, rule) in try rules(of: name, family) {
            guard let index = table.chains.firstIndex(where: { $0.name == chain }) else { continue }
            table.chains[index].rules.append(rule)
        }
        table.sets = try sets(of: name, family)
        return table
    }

    /// Those of the tables that are there, with their chains and rules and without their sets. Fewer readings than one table
    /// after the other, and each reading begins again when somebody changes something meanwhile.
    public mutating func tables(
        named names: Set<String>, _ family: Nftables.Family = .inet
    ) throws(NetlinkError) -> [String: Nftables.Table] {
        var found: [String: Nftables.Table] = [:]
        for table in try tables(family) where names.contains(table.name) { found[table.name] = table }
        guard !found.isEmpty else { return [:] }
        let chains = try everyChain(family)
        for name in found.keys.sorted() {
            var own = chains.filter { $0.table == name }.map { $0.chain }
            for (chain, rule) in try rules(of: name, family) {
                guard let index = own.firstIndex(where: { $0.name == chain }) else { continue }
                own[index].rules.append(rule)
            }
            found[name]?.chains = own
        }
        return found
    }

    /// The tables of a family, without what is in them.
    public mutating func tables(_ family: Nftables.Family = .inet) throws(NetlinkError) -> [Nftables.Table] {
        let header = NftablesWire.header(family: family.rawValue)
        return try dump(NftablesWire.Message.getTable, header, "list tables") { body in
            let attributes = Attributes(body.dropFirst(4))
            guard let name = attributes.string(NftablesWire.Table.name) else { return nil }
            let comment = attributes[NftablesWire.Table.userdata].flatMap { NftablesWire.comment(userdata: $0) }
            return Nftables.Table(name, comment: comment)
        }
    }

    /// A table's chains, without their rules.
    public mutating func chains(
        of table: String, _ family: Nftables.Family = .inet
    ) throws(NetlinkError) -> [Nftables.Chain] {
        try everyChain(family).filter { $0.table == table }.map { $0.chain }
    }

    private mutating func everyChain(
        _ family: Nftables.Family
    ) throws(NetlinkError) -> [(table: String, chain: Nftables.Chain)] {
        let header = NftablesWire.header(family: family.rawValue)
        return try dump(NftablesWire.Message.getChain, header, "list chains") { body in
            let attributes = Attributes(body.dropFirst(4))
            guard let table = attributes.string(NftablesWire.Chain.table),
                let name = attributes.string(NftablesWire.Chain.name)
            else { return nil }
            var base: Nftables.Base?
            if let hook = attributes.nested(NftablesWire.Chain.hook),
                let number = hook.bigEndian32(NftablesWire.Chain.hookNumber).flatMap(Nftables.Hook.init(rawValue:)),
                let priority = hook.bigEndian32(NftablesWire.Chain.hookPriority),
                let type = attributes.string(NftablesWire.Chain.type).flatMap(Nftables.ChainType.init(rawValue:))
            {
                base = Nftables.Base(
                    type, number, priority: Int32(bitPattern: priority),
                    acceptsByDefault: attributes.bigEndian32(NftablesWire.Chain.policy) != 0)
            }
            return (table, Nftables.Chain(name, base))
        }
    }

    /// A table's rules with the names of their chains, in order.
    public mutating func rules(
        of table: String, _ family: Nftables.Family = .inet
    ) throws(NetlinkError) -> [(chain: String, rule: Nftables.Rule)] {
        var writer = AttributeWriter()
        writer.header(NftablesWire.header(family: family.rawValue))
        writer.put(NftablesWire.Rule.table, string: table)
        return try dump(NftablesWire.Message.getRule, writer.bytes, "list rules") { body in
            let attributes = Attributes(body.dropFirst(4))
            guard attributes.string(NftablesWire.Rule.table) == table,
                let chain = attributes.string(NftablesWire.Rule.chain)
            else { return nil }
            let list = attributes.nested(NftablesWire.Rule.expressions)
            let expressions = list?.all.compactMap { Nftables.Expression(decoding: Attributes($0.value)) } ?? []
            let comment = attributes[NftablesWire.Rule.userdata].flatMap { NftablesWire.comment(userdata: $0) }
            return (chain, Nftables.Rule(expressions, comment: comment))
        }
    }

    /// Makes the kernel load connection tracking where it is a module that nothing has used yet, without any hook:
    /// its settings under `/proc/sys/net/netfilter` are there afterwards.
    public mutating func loadConntrack() throws(NetlinkError) {
        // Statistics of ctnetlink (subsystem 1, message 5): naming the subsystem is what loads it.
        try socket.dump(
            NetlinkSocket.Message(type: 1 << 8 | 4, body: NftablesWire.header(family: 0)), "load conntrack",
            reset: {}, each: { _, _ in })
    }

    mutating func dump<T>(
        _ message: UInt16, _ body: [UInt8], _ operation: String, _ decode: (ArraySlice<UInt8>) -> T?
    ) throws(NetlinkError) -> [T] {
        var found: [T] = []
        do throws(NetlinkError) {
            try socket.dump(
                NetlinkSocket.Message(type: NftablesWire.type(message), body: body), operation,
                reset: { found = [] },
                each: { _, body in if let value = decode(body) { found.append(value) } })
        } catch {
            // No such table: nothing to list.
            if error.code == ENOENT { return [] }
            throw error
        }
        return found
    }
}
