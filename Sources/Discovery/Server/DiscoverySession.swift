import IstioAPI
import SwiftProtobuf

/// What one client wants of each type, has been sent and has acknowledged. A value, apart from any stream.
///
/// A client gets its next response of a type when it has answered the one before. So nothing ever waits in a queue:
/// however slow the client, the next response says everything that has changed until then, once.
struct DiscoverySession: Sendable {
    /// Names one client may ask for one by one.
    static let maximumNames = 100_000
    private static let maximumNameLength = 1024

    struct Acknowledgement: Equatable, Sendable {
        let typeURL: String
        /// Why the client refused the response; `nil` when it took it.
        let refusal: String?
    }

    private struct Subscription: Sendable {
        var wildcard = false
        var names: Set<String> = []
        /// What the client has, by name: its version.
        var sent: [String: String] = [:]
        /// Asked for by name since the last response: answered even when the client has it already.
        var owed: Set<String> = []
        /// A response is due even when it is empty.
        var mustRespond = true
        /// The nonce that is not yet answered, and the generation that goes with it.
        var outstanding: (nonce: String, generation: UInt64)?
        /// The generation up to which all was sent or was of no interest.
        var synced: UInt64 = 0
        /// All of `sent` is to be compared, not only what has changed.
        var compareAll = true
        var acknowledged: UInt64 = 0
    }

    private var subscriptions: [String: Subscription] = [:]
    private var nextNonce: UInt64 = 0
    private(set) var nodeID = ""
    private(set) var nodeName = ""

    enum Violation: Error, Equatable {
        case tooManyNames
        case nameTooLong
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
            subscription.sent = request.initialResourceVersions
        }
        var acknowledgement: Acknowledgement?
        if let outstanding = subscription.outstanding, !request.responseNonce.isEmpty,
            outstanding.nonce == request.responseNonce
        {
            let refusal = request.hasErrorDetail ? request.errorDetail.message : nil
            subscription.outstanding = nil
            if refusal == nil { subscription.acknowledged = outstanding.generation }
            acknowledgement = Acknowledgement(typeURL: request.typeURL, refusal: refusal)
        }
        for name in request.resourceNamesSubscribe {
            guard name.utf8.count <= Self.maximumNameLength else { throw .nameTooLong }
            subscription.mustRespond = true
            subscription.compareAll = true
            if name == "*" {
                subscription.wildcard = true
            } else {
                subscription.names.insert(name)
                subscription.owed.insert(name)
            }
        }
        guard subscription.names.count <= Self.maximumNames else { throw .tooManyNames }
        for name in request.resourceNamesUnsubscribe {
            subscription.compareAll = true
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
    var types: Set<String> { Set(subscriptions.keys) }

    /// The generation of a type that the client has taken; `nil` for a type it never asked for.
    func acknowledged(_ typeURL: String) -> UInt64? { subscriptions[typeURL]?.acknowledged }

    /// What to send now, if anything.
    mutating func next(_ table: ResourceTable) -> Envoy_Service_Discovery_V3_DeltaDiscoveryResponse? {
        guard let due = subscriptions[table.typeURL], due.outstanding == nil,
            due.mustRespond || due.compareAll || due.synced < table.generation
        else { return nil }
        _ = consume due
        guard var subscription = subscriptions.removeValue(forKey: table.typeURL) else { return nil }
        var response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()
        response.typeURL = table.typeURL
        collect(table, &subscription, into: &response)
        subscription.compareAll = false
        subscription.synced = table.generation
        subscription.owed = []
        let isDue = subscription.mustRespond || !response.resources.isEmpty || !response.removedResources.isEmpty
        if isDue {
            nextNonce += 1
            response.nonce = String(nextNonce)
            response.systemVersionInfo = String(table.generation)
            subscription.mustRespond = false
            subscription.outstanding = (response.nonce, table.generation)
        } else {
            // Nothing of interest to this client: it is up to date without a word.
            subscription.acknowledged = table.generation
        }
        subscriptions[table.typeURL] = subscription
        return isDue ? response : nil
    }

    /// An answer to a type that nobody publishes: empty, once.
    mutating func nextUnknown(_ typeURL: String) -> Envoy_Service_Discovery_V3_DeltaDiscoveryResponse? {
        next(ResourceTable(typeURL: typeURL))
    }

    private func collect(
        _ table: ResourceTable, _ subscription: inout Subscription,
        into response: inout Envoy_Service_Discovery_V3_DeltaDiscoveryResponse
    ) {
        let changed = subscription.compareAll ? nil : table.changes(since: subscription.synced)
        var owed: Set<String> = []
        var removed: Set<String> = []
        for name in subscription.owed {
            let found = table.resolve(name)
            owed.formUnion(found)
            // Asked for and not there: said, so that whoever waits for it does not wait for ever.
            if found.isEmpty { removed.insert(name) }
        }
        // Which of the resources concern the client.
        let wanted: Set<String>?
        if subscription.wildcard {
            wanted = nil
        } else {
            var names = table.typeURL == TypeURL.address ? table.workloads(onNode: nodeName) : []
            for name in subscription.names { names.formUnion(table.resolve(name)) }
            wanted = names
        }
        let candidates: [String]
        if let changed, wanted == nil {
            candidates = Array(changed.union(owed))
        } else {
            candidates = wanted.map(Array.init) ?? Array(table.entries.keys)
        }
        for name in candidates.sorted() {
            guard let entry = table.entries[name] else { continue }
            if subscription.sent[name] == entry.version, !owed.contains(name) { continue }
            var resource = Envoy_Service_Discovery_V3_Resource()
            resource.name = name
            resource.aliases = entry.resource.aliases
            resource.version = entry.version
            resource.resource.typeURL = table.typeURL
            resource.resource.value = entry.body
            response.resources.append(resource)
            subscription.sent[name] = entry.version
        }
        let gone: [String]
        if let changed, wanted == nil {
            gone = changed.filter { table.entries[$0] == nil && subscription.sent[$0] != nil }
        } else {
            // What is no longer wanted is forgotten without a word; what is no longer there is said.
            gone = subscription.sent.keys.filter { table.entries[$0] == nil }
            if let wanted { subscription.sent = subscription.sent.filter { wanted.contains($0.key) } }
        }
        for name in gone { subscription.sent[name] = nil }
        response.removedResources = removed.union(gone).sorted()
    }
}
