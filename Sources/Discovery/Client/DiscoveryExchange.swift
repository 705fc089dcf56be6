import Foundation
import IstioAPI
import Mesh
import SwiftProtobuf

/// What the client knows of its exchange with the server: a value, apart from any stream.
///
/// It remembers which version of which resource it holds, over the end of a stream: with that the server sends after a
/// reconnect only what has changed, and says what is gone.
struct DiscoveryExchange: Sendable {
    /// Both types, asked for as a whole. Policies first, for the same reason as in the server.
    static let types = [TypeURL.authorization, TypeURL.address]

    private var retained: [String: [String: String]] = [:]
    private var answered: Set<String> = []

    /// What a response amounts to.
    struct Outcome: Sendable {
        var updates: [MeshUpdate]
        var reply: Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
        /// Resources that could not be taken, `name: reason`.
        var refusals: [String]
        /// Not one of the types asked for.
        var unknownType = false
    }

    /// Every type has been answered and taken once.
    var isReady: Bool { answered.isSuperset(of: Self.types) }

    /// The requests that open a stream, one a type.
    func opening(_ node: DiscoveryNode) -> [Envoy_Service_Discovery_V3_DeltaDiscoveryRequest] {
        Self.types.map { type in
            var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
            request.typeURL = type
            request.node = node.wire
            request.initialResourceVersions = retained[type] ?? [:]
            return request
        }
    }

    /// Reads a response. Wrong resources are left out, one by one; what is right counts.
    ///
    /// The caller applies the updates and only then sends the reply: an acknowledged state is in force.
    mutating func receive(_ response: Envoy_Service_Discovery_V3_DeltaDiscoveryResponse) -> Outcome {
        var reply = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
        reply.typeURL = response.typeURL
        reply.responseNonce = response.nonce
        guard Self.types.contains(response.typeURL) else {
            return Outcome(updates: [], reply: reply, refusals: [], unknownType: true)
        }
        var updates: [MeshUpdate] = response.removedResources.map {
            response.typeURL == TypeURL.authorization ? .removePolicy($0) : .remove($0)
        }
        var refusals: [String] = []
        for name in response.removedResources { retained[response.typeURL]?[name] = nil }
        for resource in response.resources {
            do {
                updates.append(
                    try MeshUpdate(name: resource.name, typeURL: response.typeURL, body: resource.resource))
                retained[response.typeURL, default: [:]][resource.name] = resource.version
            } catch {
                refusals.append("\(resource.name): \(error)")
            }
        }
        if refusals.isEmpty {
            answered.insert(response.typeURL)
        } else {
            reply.errorDetail.code = 3  // INVALID_ARGUMENT
            reply.errorDetail.message = refusals.joined(separator: "; ")
        }
        return Outcome(updates: updates, reply: reply, refusals: refusals)
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
