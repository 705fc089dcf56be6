import Addressing
import Glibc
import LinuxNetwork
import Netlink

/// Capture by nf_tables: NAT redirection in a table of our own, connection marks, and policy routes for replies.
public struct NftablesBackend: RedirectionBackend {
    private let forged: ForgedMarkProgram?
    private let shelf = PlannedRules.Shelf()

    /// Without the means for plans that ask for the seal (``RedirectionPlan/requiresSeal``).
    public init() { forged = nil }

    private init(_ forged: ForgedMarkProgram) { self.forged = forged }

    /// One with a program for plans that ask for the seal; loading it takes some tens of milliseconds.
    /// - Throws: Where the kernel does not take it (Linux 5.11 with BTF does).
    public static func tellingSeals() throws(RedirectionError) -> NftablesBackend {
        NftablesBackend(try ForgedMarkProgram())
    }

    public var sealProblem: RedirectionError? {
        guard forged == nil else { return SealProbe.problem() }
        return RedirectionError(
            .plan, "this copy of capture by nf_tables cannot look for seals", hint: "name creators instead")
    }

    public func prepare(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        guard let forged, plan.requiresSeal else { return }
        // The first classifier of a new place waits for every processor to have let go of what it sees (a grace period of
        // RCU). Without capture, what it drops is nobody's: a packet of the proxy's that the proxy did not send.
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot set up capture") { () throws(NetlinkError) in
                try ForgedMarks.drop(forged)
            }
        }
    }

    public func apply(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        if plan.requiresSeal, forged == nil, let sealProblem { throw sealProblem }
        try namespace.run { () throws(RedirectionError) in try makeHold(plan, .capturing) }
    }

    public func leave(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try namespace.run { () throws(RedirectionError) in try makeHold(plan, .leaving) }
    }

    public func remove(in namespace: borrowing NetworkNamespace) throws {
        try namespace.run { () throws(RedirectionError) in try Self.removeHere() }
    }

    public func verify(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, in namespace: borrowing NetworkNamespace
    ) throws -> [Drift] {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot read capture back") { () throws(NetlinkError) in
                var nftables = try NftablesSocket()
                var routes = try RouteSocket()
                let tables = try nftables.tables(named: Self.tables)
                let table = tables[RedirectionTable.name]
                let rules = shelf.rules(plan, phase)
                return try PolicyRouting.drift(plan, &routes)
                    + Self.drift(table, rules.chains)
                    + SecondLine.drift(rules.line, tables[SecondLine.table])
                    + Self.settingDrift(plan, table) + forgedDrift(plan, phase)
            }
        }
    }

    public func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot count captured connections") { () throws(NetlinkError) in
                var diagnostics = try SocketDiagnostics()
                return try CapturedConnections.count(&diagnostics)
            }
        }
    }

    /// Whether something of it is there.
    static func isPresent(in namespace: borrowing NetworkNamespace) throws -> Bool {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot read capture back") { () throws(NetlinkError) in
                var nftables = try NftablesSocket()
                return try nftables.table(RedirectionTable.name) != nil
            }
        }
    }

    // MARK: In the namespace

    private static let tables: Set<String> = [RedirectionTable.name, SecondLine.table]

    private func forgedDrift(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase
    ) throws(NetlinkError) -> [Drift] {
        guard let forged else { return try ForgedMarks.leftovers() }
        return try ForgedMarks.drift(forged, isWanted: plan.requiresSeal && phase == .capturing)
    }

    private func makeHold(_ plan: RedirectionPlan, _ phase: RedirectionPhase) throws(RedirectionError) {
        let message = "cannot set up capture"
        // Order: what the settings were is kept before they are changed; conntrack must leave open connections alone before
        // rules make it look at packets; and a mark must lead somewhere before a rule sets it.
        var nftables = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try NftablesSocket() }
        var settings: [NamespaceSetting: KernelSetting.Opened] = [:]
        var wasAbsent = false
        let (table, line) = try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            let present = try nftables.tables(named: Self.tables)
            for setting in NamespaceSetting.allCases { settings[setting] = KernelSetting.Opened(setting.setting) }
            let conntrack = NamespaceSetting.picksUpOpenConnections
            if present[RedirectionTable.name] == nil, settings[conntrack] == nil {
                try nftables.loadConntrack()
                settings[conntrack] = KernelSetting.Opened(conntrack.setting)
            }
            let line = present[SecondLine.table]
            if let table = present[RedirectionTable.name] { return (table, line) }
            let made = try Self.tableWithMemory(settings, &nftables)
            wasAbsent = made.isNew
            return (made.table, line)
        }
        for setting in NamespaceSetting.allCases {
            guard let wanted = setting.wanted(plan), settings[setting]?.value != wanted else { continue }
            if let opened = settings[setting] { try opened.write(wanted) } else { try setting.setting.write(wanted) }
        }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            var routes = try RouteSocket()
            try PolicyRouting.establish(plan, isNew: wasAbsent, &routes)
            let rules = shelf.rules(plan, phase)
            let isFresh = table.chains.isEmpty && line == nil && RedirectionTable.memory(table.comment) != nil
            var batch = isFresh ? rules.fresh : Self.changes(from: table, to: rules.chains)
            if !isFresh { SecondLine.change(from: line, to: rules.line, &batch) }
            try nftables.commit(batch)
            if phase == .capturing, Self.beginsCapture(table, rules.chains) {
                try ForgottenConnections.forget(&routes)
            }
            if let forged, plan.requiresSeal, phase == .capturing {
                try ForgedMarks.drop(forged)
            } else {
                try ForgedMarks.remove()
            }
        }
    }

    /// Our table, made empty: its comment keeps the settings' values from before.
    /// - Returns: It, and whether our routing is missing as well.
    private static func tableWithMemory(
        _ settings: [NamespaceSetting: KernelSetting.Opened], _ nftables: inout NftablesSocket
    ) throws(NetlinkError) -> (table: Nftables.Table, isNew: Bool) {
        var routes = try RouteSocket()
        // With our routing in place the table was deleted under us, and the values are our own.
        let isNew = try !PolicyRouting.isPresent(&routes)
        let comment = RedirectionTable.comment(isNew ? settings.mapValues(\.value) : [:])
        var batch = Nftables.Batch()
        batch.addTable(RedirectionTable.name, comment: comment)
        try nftables.commit(batch)
        return (Nftables.Table(RedirectionTable.name, comment: comment), isNew)
    }

    private static func removeHere() throws(RedirectionError) {
        let message = "cannot take capture away"
        var nftables = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try NftablesSocket() }
        let table = try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            try nftables.table(RedirectionTable.name)
        }
        // The settings go back while nothing is redirected but before the table, which knows its old value, goes:
        // a connection that was open before capture would be cut if conntrack took it up under redirecting rules.
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            var leaving = Nftables.Batch()
            // Before anything is no longer captured, in the same transaction.
            try SecondLine.remove(&nftables, &leaving)
            let translating = [RedirectionTable.Chain.natPrerouting, RedirectionTable.Chain.natOutput]
            for chain in table?.chains ?? [] where translating.contains(chain.name) {
                leaving.flush(table: RedirectionTable.name, chain: chain.name)
            }
            try nftables.commit(leaving)
            var routes = try RouteSocket()
            try PolicyRouting.remove(&routes)
            try ForgedMarks.remove()
        }
        for (setting, before) in RedirectionTable.memory(table?.comment) ?? [:] {
            // A setting that is not there, for want of IPv6, was not changed either.
            guard let value = setting.setting.read(), value != before else { continue }
            try setting.setting.write(before)
        }
        guard table != nil else { return }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            var removal = Nftables.Batch()
            removal.removeTable(RedirectionTable.name)
            try nftables.commit(removal)
        }
    }

    /// The transaction that turns the table as it is into the wanted one; empty when it is that already.
    ///
    /// Chains that fit stay: a chain that is taken out and put in again would let conntrack go for a moment, and
    /// with it the translation of what is captured.
    static func changes(from table: Nftables.Table?, to wanted: [Nftables.Chain]) -> Nftables.Batch {
        var batch = Nftables.Batch()
        let comment = table?.comment
        let readable = RedirectionTable.memory(comment) != nil
        let misfit = wanted.contains { chain in
            table?.chains.contains { $0.name == chain.name && $0.base != chain.base } ?? false
        }
        if table != nil, misfit || !readable {
            batch.removeTable(RedirectionTable.name)
            batch.addTable(
                RedirectionTable.name,
                comment: readable ? comment : RedirectionTable.comment([:]))
        }
        let replaced = table == nil || misfit || !readable
        for chain in wanted {
            let present = replaced ? nil : table?.chains.first { $0.name == chain.name }
            if present == nil { batch.addChain(chain, table: RedirectionTable.name) }
            guard present?.rules != chain.rules else { continue }
            if present != nil { batch.flush(table: RedirectionTable.name, chain: chain.name) }
            for rule in chain.rules { batch.addRule(rule, chain: chain.name, table: RedirectionTable.name) }
        }
        if !replaced {
            let foreign = (table?.chains ?? []).map(\.name).filter { name in !wanted.contains { $0.name == name } }
            for name in foreign { batch.flush(table: RedirectionTable.name, chain: name) }
            for name in foreign { batch.deleteChain(name, table: RedirectionTable.name) }
        }
        return batch
    }

    /// Whether something is captured by the wanted chains that was not by the table as it is. Only then can there be
    /// connections that passed uncaptured, and ended unseen.
    static func beginsCapture(_ table: Nftables.Table, _ wanted: [Nftables.Chain]) -> Bool {
        wanted.contains { chain in
            let present = table.chains.first { $0.name == chain.name && $0.base == chain.base }?.rules ?? []
            return chain.rules.contains { $0.expressions.contains(.redirect) && !present.contains($0) }
        }
    }

    static func drift(_ table: Nftables.Table?, _ wanted: [Nftables.Chain]) -> [Drift] {
        guard let table else { return [.tableMissing] }
        var found: [Drift] = []
        for chain in wanted {
            guard let present = table.chains.first(where: { $0.name == chain.name }) else {
                found.append(.chainMissing(chain.name))
                continue
            }
            if present.base != chain.base { found.append(.chainDiffers(chain.name)) }
            guard present.rules != chain.rules else { continue }
            var left = present.rules
            var missing: [Drift] = []
            for rule in chain.rules {
                if let index = left.firstIndex(of: rule) {
                    left.remove(at: index)
                } else {
                    missing.append(.ruleMissing(chain: chain.name, rule: rule.comment ?? ""))
                }
            }
            let extra = left.map { Drift.ruleUnexpected(chain: chain.name, rule: $0.comment ?? "without a comment") }
            found += missing.isEmpty && extra.isEmpty ? [.rulesReordered(chain: chain.name)] : missing + extra
        }
        for chain in table.chains where !wanted.contains(where: { $0.name == chain.name }) {
            found.append(.chainUnexpected(chain.name))
        }
        return found
    }

    private static func settingDrift(_ plan: RedirectionPlan, _ table: Nftables.Table?) -> [Drift] {
        guard table != nil else { return [] }
        return NamespaceSetting.allCases.compactMap { setting in
            guard let wanted = setting.wanted(plan), let value = setting.setting.read(), value != wanted else {
                return nil
            }
            return .settingDiffers(name: setting.setting.name, value: value, wanted: wanted)
        }
    }
}
