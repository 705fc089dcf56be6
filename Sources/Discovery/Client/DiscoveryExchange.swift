import DequeModule
import Foundation
import IstioAPI
import Mesh
import SwiftProtobuf

/// What the client knows of its exchange with the server: a value, apart from any stream.
///
/// It remembers which version of which resource it holds, over the end of a stream: with that the server sends after a
/// reconnect only what has changed, and says what is gone.
package struct DiscoveryExchange: Sendable {
    /// Both types, asked for as a whole. Policies first, for the same reason as in the server.
    static let types = [TypeURL.authorization, TypeURL.address]

    private var retained: [String: ResourceVersions] = [:]
    private var answered: Set<String> = []
    /// Not everything of addresses is asked for, but names one by one: those asked so far, and those of them without an
    /// answer.
    private let isOnDemand: Bool
    private var demanded: Set<MeshName> = []
    private var pending: Set<MeshName> = []
    /// Answered with nothing, the oldest first: the first to be given up when there are too many.
    private var unknown: Deque<MeshName> = []
    /// Below what a server takes from one client.
    static let mostNames = 65_536

    /// What a response amounts to.
    package struct Outcome: Sendable {
        package var updates: [MeshUpdate]
        package var reply: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
        /// Resources that could not be taken, `name: reason`.
        package var refusals: [String]
        /// Not one of the types asked for.
        package var unknownType = false
        /// With it, every type has been answered and taken once.
        package var completes = false
    }

    package init(onDemand: Bool = false) { isOnDemand = onDemand }

    /// Every type has been answered and taken once.
    var isReady: Bool { answered.isSuperset(of: Self.types) }

    /// The requests that open a stream, one a type.
    func opening(_ node: DiscoveryNode) -> [Envoy_Service_Discovery_V3_DeltaDiscoveryRequest] {
        Self.types.map { type in
            var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
            request.typeURL = type
            request.node = node.wire
            request.initialResourceVersions = retained[type]?.all ?? [:]
            if isOnDemand, type == TypeURL.address {
                // Everything and then not everything: no names alone would mean everything.
                request.resourceNamesSubscribe = ["*"] + demanded.map(\.description).sorted()
                request.resourceNamesUnsubscribe = ["*"]
            }
            return request
        }
    }

    /// What a name that is needed amounts to.
    enum Demand {
        case answered
        case pending
        /// To be sent.
        case request(Envoy_Service_Discovery_V3_DeltaDiscoveryRequest)
        /// Too many names are asked for.
        case refused
    }

    /// - Parameter isKnown: Whether the mesh holds something of a name. What has come to stand for something since it was
    ///   answered is not given up: changes of it would not be heard of any more.
    mutating func demand(_ name: MeshName, isKnown: (MeshName) -> Bool) -> Demand {
        if demanded.contains(name) { return pending.contains(name) ? .pending : .answered }
        var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
        request.typeURL = TypeURL.address
        if demanded.count >= Self.mostNames {
            while let oldest = unknown.first, isKnown(oldest) { unknown.removeFirst() }
            guard let oldest = unknown.popFirst() else { return .refused }
            demanded.remove(oldest)
            request.resourceNamesUnsubscribe = [oldest.description]
        }
        demanded.insert(name)
        pending.insert(name)
        request.resourceNamesSubscribe = [name.description]
        return .request(request)
    }

    /// The names that a response has answered, with something that is known now or with nothing.
    mutating func settle(removed: Set<String>, isKnown: (MeshName) -> Bool) -> [MeshName] {
        var settled: [MeshName] = []
        for name in pending {
            let isKnown = isKnown(name)
            guard isKnown || removed.contains(name.description) else { continue }
            settled.append(name)
            if !isKnown { unknown.append(name) }
        }
        pending.subtract(settled)
        return settled
    }

    /// Takes a response in. Wrong resources are left out, one by one; what is right counts.
    ///
    /// The caller applies the updates and only then sends the reply: an acknowledged state is in force. A resource that
    /// is refused is not held at its new version, so that after a reconnect it is sent again.
    package mutating func receive(_ response: ResourceDelta) -> Outcome {
        var reply = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
        reply.typeURL = response.typeURL
        reply.responseNonce = response.nonce
        guard response.kind != .other else {
            return Outcome(updates: [], reply: reply, refusals: [], unknownType: true)
        }
        var updates: [MeshUpdate] = response.removed.map {
            response.kind == .authorization ? .removePolicy($0) : .remove($0)
        }
        updates.reserveCapacity(updates.count + response.resources.count)
        var refusals: [String] = []
        // Taken out while it is changed: a second reference would make every change a copy of it all.
        var versions = retained.removeValue(forKey: response.typeURL) ?? ResourceVersions()
        for name in response.removed { versions.remove(name) }
        for resource in response.resources {
            switch resource.update {
            case .success(let update):
                updates.append(update)
                versions.set(resource.name, resource.version)
            case .failure(let error):
                refusals.append("\(resource.name): \(error)")
            }
        }
        retained[response.typeURL] = versions
        if refusals.isEmpty {
            answered.insert(response.typeURL)
        } else {
            reply.errorDetail.code = 3  // INVALID_ARGUMENT
            reply.errorDetail.message = Self.summary(refusals)
        }
        return Outcome(updates: updates, reply: reply, refusals: refusals, completes: isReady)
    }

    /// All of them as one text, of bounded length: a control plane may get everything wrong.
    private static func summary(_ refusals: [String]) -> String {
        var text = ""
        for (index, refusal) in refusals.enumerated() {
            guard text.utf8.count + refusal.utf8.count < 16 << 10 else {
                return text + "; and \(refusals.count - index) more"
            }
            text += index == 0 ? refusal : "; " + refusal
        }
        return text
    }
}

extension DiscoveryNode {
    var wire: Envoy_Service_Discovery_V3_Node {
        var node = Envoy_Service_Discovery_V3_Node()
        node.id = id
        var fields = metadata
        fields["NAME"] = podName
        fields["NAMESPACE"] = podNamespace
        fields["INSTANCE_IPS"] = instanceAddress
        fields["NODE_NAME"] = nodeName
        var values = fields.mapValues { Google_Protobuf_Value(stringValue: $0) }
        for (name, text) in jsonMetadata where fields[name] == nil {
            // Checked where the configuration was read; a text that is none is told as it stands.
            values[name] = (try? Google_Protobuf_Value(jsonString: text)) ?? Google_Protobuf_Value(stringValue: text)
        }
        node.metadata = Google_Protobuf_Struct(fields: values)
        return node
    }
}
