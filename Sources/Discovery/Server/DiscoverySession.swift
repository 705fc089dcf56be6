import IstioAPI
import SwiftProtobuf

/// What one client wants of each type, has been sent and has acknowledged. A value, apart from any stream.
///
/// A client gets its next response of a type when it has answered the one before. So nothing ever waits in a queue:
/// however slow the client, the next response says everything that has changed until then, once. Of a client that wants
/// everything no more is remembered than the generation it has.
struct DiscoverySession: Sendable {
    /// Names one client may ask for one by one.
    static let maximumNames = 100_000
    private static let maximumNameLength = 1024

    struct Acknowledgement: Equatable, Sendable {
        let typeURL: String
        /// Why the client refused the response; `nil` when it took it.
        let refusal: String?
    }

    private enum Holding: Sendable {
        /// Everything of a generation, of 0 nothing; and the one up to which it was told of what is gone.
        case generation(UInt64, told: UInt64)
        /// These, by name: their versions.
        case versions([String: String])
    }

    private struct Subscription: Sendable {
        var wildcard = false
        var names: Set<String> = []
        var holding = Holding.generation(0, told: 0)
        /// Asked for by name since the last response: answered even when the client has it already.
        var owed: Set<String> = []
        /// A response is due even when it is empty.
        var mustRespond = true
        /// The nonce that is not yet answered, the generation that goes with it, and the one that is acknowledged with it.
        var outstanding: (nonce: String, generation: UInt64, acknowledges: UInt64)?
        /// The generation up to which all was sent or was of no interest.
        var synced: UInt64 = 0
        /// The client wants other things than before.
        var hasChanged = true
        /// Something is gone that the client has not been told of.
        var withholds = false
        /// The generation that the client has taken or refused; `nil` before its first answer.
        var answered: UInt64?
        /// The generation that it has taken with all that was gone by then.
        var acknowledged: UInt64 = 0

        /// The stream has begun with what the client has from another one, and it has been told nothing yet.
        var isReturning: Bool {
            guard case .versions = holding else { return false }
            return answered == nil
        }
    }

    private var subscriptions: [String: Subscription] = [:]
    /// Workloads that wait for policies they may list.
    private var workloadsHold = PushHold()
    /// The word that policies are gone, which waits for workloads that do not list them.
    private var removalsHold = PushHold()
    private var nextNonce: UInt64 = 0
    private(set) var nodeID = ""
    private(set) var nodeName = ""

    enum Violation: Error, Equatable {
        case tooManyNames
        case nameTooLong
        /// What is gone since the client's last answer is not known any more. On a new stream it says itself what it has.
        case tooFarBehind
    }

    /// Takes in a request.
    ///
    /// - Returns: What the request says about the last response of its type, if it answers it.
    /// - Throws: ``Violation``; the stream should end then.
    mutating func receive(
        _ request: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    ) throws(Violation) -> Acknowledgement? {
        if request.hasNode {
            nodeID = String(request.node.id.prefix(Self.maximumNameLength))
            nodeName = request.node.metadata.fields["NODE_NAME"]?.stringValue ?? ""
        }
        // Taken out while it is changed: a second reference would make every change a copy of it all.
        let known = subscriptions.removeValue(forKey: request.typeURL)
        let isFirst = known == nil
        var subscription = known ?? Subscription()
        if isFirst {
            subscription.wildcard = request.resourceNamesSubscribe.isEmpty
            if !request.initialResourceVersions.isEmpty {
                subscription.holding = .versions(request.initialResourceVersions)
            }
        }
        var acknowledgement: Acknowledgement?
        if let outstanding = subscription.outstanding, !request.responseNonce.isEmpty,
            outstanding.nonce == request.responseNonce
        {
            let refusal = request.hasErrorDetail ? request.errorDetail.message : nil
            subscription.outstanding = nil
            subscription.answered = outstanding.generation
            if refusal == nil { subscription.acknowledged = outstanding.acknowledges }
            acknowledgement = Acknowledgement(typeURL: request.typeURL, refusal: refusal)
        }
        for name in request.resourceNamesSubscribe {
            guard name.utf8.count <= Self.maximumNameLength else { throw .nameTooLong }
            subscription.mustRespond = true
            subscription.hasChanged = true
            if name == "*" {
                subscription.wildcard = true
            } else {
                subscription.names.insert(name)
                subscription.owed.insert(name)
            }
        }
        guard subscription.names.count <= Self.maximumNames else { throw .tooManyNames }
        for name in request.resourceNamesUnsubscribe {
            subscription.hasChanged = true
            if name == "*" {
                subscription.wildcard = false
            } else {
                subscription.names.remove(name)
                subscription.owed.remove(name)
            }
        }
        subscriptions[request.typeURL] = subscription
        return acknowledgement
    }

    /// Types the client has asked for.
    var types: some Collection<String> { subscriptions.keys }

    /// The generation of a type that the client has taken; `nil` for a type it never asked for.
    func acknowledged(_ typeURL: String) -> UInt64? { subscriptions[typeURL]?.acknowledged }

    /// What happens next on the stream.
    struct Turn {
        var push: DiscoveryPush?
        /// Somebody has to ask again when the patience for these is over.
        var begins: [PushHold.Reason] = []
    }

    /// What to send now, if anything: a policy before the workloads that may list it, and taken away after those that did.
    ///
    /// - Throws: ``Violation`` `tooFarBehind`; the stream should end then.
    mutating func next(_ tables: DiscoveryTables, now: ContinuousClock.Instant) throws(Violation) -> Turn {
        var turn = Turn()
        let removals = reasonToKeepRemovals(tables)
        let keepsRemovals = removalsHold.look(removals, now)
        if keepsRemovals.begins, let removals { turn.begins.append(removals) }
        turn.push = try next(tables.policies, withholding: keepsRemovals.holds)
        if turn.push != nil { return turn }
        let workloads = reasonToKeepWorkloads(tables)
        let keepsWorkloads = workloadsHold.look(workloads, now)
        if keepsWorkloads.begins, let workloads { turn.begins.append(workloads) }
        if !keepsWorkloads.holds { turn.push = try next(tables.workloads) }
        if turn.push != nil { return turn }
        for type in types where type != TypeURL.authorization && type != TypeURL.address {
            turn.push = try nextUnknown(type)
            if turn.push != nil { return turn }
        }
        return turn
    }

    private func reasonToKeepWorkloads(_ tables: DiscoveryTables) -> PushHold.Reason? {
        guard let workloads = subscriptions[TypeURL.address] else { return nil }
        guard let policies = subscriptions[TypeURL.authorization] else {
            // It may have been told of no policy, and serve already.
            return workloads.isReturning ? .request : nil
        }
        return policies.answered ?? 0 >= tables.policiesAtAddition ? nil : .answer
    }

    private func reasonToKeepRemovals(_ tables: DiscoveryTables) -> PushHold.Reason? {
        guard let policies = subscriptions[TypeURL.authorization], Self.lacksRemovals(policies, tables.policies) else {
            return nil
        }
        guard let workloads = subscriptions[TypeURL.address] else { return policies.isReturning ? .request : nil }
        guard let answered = workloads.answered else { return .answer }
        return answered >= tables.workloadsAtRemoval ? nil : .answer
    }

    /// Whether something is gone that the client may have.
    private static func lacksRemovals(_ subscription: Subscription, _ table: ResourceTable) -> Bool {
        switch subscription.holding {
        case .generation(let sent, let told): sent > 0 && table.lastRemoval > told
        case .versions(let versions): versions.keys.contains { table.entries[$0] == nil }
        }
    }

    private func isDue(_ table: ResourceTable, _ withholding: Bool) -> Bool {
        guard let subscription = subscriptions[table.typeURL], subscription.outstanding == nil else { return false }
        return subscription.mustRespond || subscription.hasChanged || subscription.synced < table.generation
            || subscription.withholds && !withholding
    }

    /// What to send of one type now, if anything.
    ///
    /// - Parameter withholding: Says nothing of what is gone.
    mutating func next(_ table: ResourceTable, withholding: Bool = false) throws(Violation) -> DiscoveryPush? {
        guard isDue(table, withholding), var subscription = subscriptions.removeValue(forKey: table.typeURL) else {
            return nil
        }
        defer { subscriptions[table.typeURL] = subscription }
        subscription.withholds = withholding && Self.lacksRemovals(subscription, table)
        guard
            let body = subscription.wildcard
                ? Self.everything(table, &subscription) : named(table, &subscription)
        else { throw .tooFarBehind }
        subscription.hasChanged = false
        subscription.synced = table.generation
        subscription.owed = []
        let acknowledges = subscription.withholds ? subscription.acknowledged : table.generation
        guard subscription.mustRespond || !body.isEmpty else {
            // Nothing of interest to this client: it is up to date without a word.
            subscription.answered = table.generation
            subscription.acknowledged = acknowledges
            return nil
        }
        nextNonce += 1
        let push = DiscoveryPush(nonce: String(nextNonce), body: body)
        subscription.mustRespond = false
        subscription.outstanding = (push.nonce, table.generation, acknowledges)
        return push
    }

    /// An answer to a type that nobody publishes: empty, once.
    mutating func nextUnknown(_ typeURL: String) throws(Violation) -> DiscoveryPush? {
        try next(ResourceTable(typeURL: typeURL))
    }

    /// For a client that wants all there is.
    private static func everything(_ table: ResourceTable, _ subscription: inout Subscription) -> DiscoveryPush.Body? {
        var (names, gone) = resolved(subscription.owed, table)
        switch subscription.holding {
        case .generation(let sent, let told):
            let tells = subscription.withholds ? nil : told
            subscription.holding = .generation(table.generation, told: subscription.withholds ? told : table.generation)
            guard !subscription.owed.isEmpty else { return table.body(since: sent, told: tells) }
            guard let changes = table.changes(since: sent, told: tells) else { return nil }
            names.formUnion(changes.present)
            gone.formUnion(changes.gone)
        case .versions(var versions):
            for (name, entry) in table.entries where versions[name] != entry.version { names.insert(name) }
            if subscription.withholds {
                // What is gone stays among the versions until it is said.
                for name in names { versions[name] = table.entries[name]?.version }
                subscription.holding = .versions(versions)
            } else {
                for name in versions.keys where table.entries[name] == nil { gone.insert(name) }
                subscription.holding = .generation(table.generation, told: table.generation)
            }
        }
        return table.body(names.compactMap { table.entries[$0] }, removed: Array(gone))
    }

    /// For a client that asks for names.
    private func named(_ table: ResourceTable, _ subscription: inout Subscription) -> DiscoveryPush.Body? {
        var sent: [String: String]
        switch subscription.holding {
        case .versions(let versions): sent = versions
        case .generation(let past, let told):
            guard let versions = table.versions(asOf: past, told: told) else { return nil }
            sent = versions
        }
        // Held once while it is changed.
        subscription.holding = .generation(0, told: 0)
        let (owed, unknown) = Self.resolved(subscription.owed, table)
        var wanted = table.typeURL == TypeURL.address ? table.workloads(onNode: nodeName) : []
        for name in subscription.names { wanted.formUnion(table.resolve(name)) }
        var entries: [ResourceTable.Entry] = []
        for name in wanted {
            guard let entry = table.entries[name] else { continue }
            if sent[name] == entry.version, !owed.contains(name) { continue }
            entries.append(entry)
            sent[name] = entry.version
        }
        // What is no longer wanted is forgotten without a word; what is no longer there is said, now or later.
        let withholds = subscription.withholds
        let gone = withholds ? [] : sent.keys.filter { table.entries[$0] == nil }
        subscription.holding = .versions(
            sent.filter { wanted.contains($0.key) || withholds && table.entries[$0.key] == nil })
        return table.body(entries, removed: Array(unknown.union(gone)))
    }

    /// What names that were asked for stand for. Those that stand for nothing are said, so that whoever waits for one
    /// does not wait for ever.
    private static func resolved(
        _ names: Set<String>, _ table: ResourceTable
    ) -> (found: Set<String>, unknown: Set<String>) {
        var (found, unknown): (Set<String>, Set<String>) = ([], [])
        for name in names {
            let resources = table.resolve(name)
            if resources.isEmpty { unknown.insert(name) }
            found.formUnion(resources)
        }
        return (found, unknown)
    }
}
