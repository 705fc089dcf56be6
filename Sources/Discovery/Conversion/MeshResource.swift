import Foundation
import IstioAPI
public import Mesh
import SwiftProtobuf

/// One resource of the mesh as it is published.
public enum MeshResource: Hashable, Sendable {
    case workload(Workload)
    case service(Service)
    case policy(AuthorizationPolicy)

    /// The uid of a workload, `namespace/hostname` of a service, `namespace/name` of a policy.
    public var name: String {
        switch self {
        case .workload(let workload): workload.uid
        case .service(let service): service.key.description
        case .policy(let policy): policy.key
        }
    }

    public var typeURL: String {
        switch self {
        case .workload, .service: TypeURL.address
        case .policy: TypeURL.authorization
        }
    }

    /// Other names it can be asked for by: `network/ip` of each address.
    ///
    /// A workload with the node's own address is not found by it.
    public var aliases: [String] {
        switch self {
        case .workload(let workload):
            workload.networkMode == .hostNetwork
                ? [] : workload.addresses.map { "\(workload.network)/\($0)" }
        case .service(let service): service.addresses.map(\.description)
        case .policy: []
        }
    }

    /// The message, the same bytes for equal resources.
    func encoded() throws -> Data {
        var options = BinaryEncodingOptions()
        options.useDeterministicOrdering = true
        switch self {
        case .workload(let workload):
            var address = Istio_Workload_Address()
            address.workload = Istio_Workload_Workload(workload)
            return try address.serializedBytes(options: options)
        case .service(let service):
            var address = Istio_Workload_Address()
            address.service = Istio_Workload_Service(service)
            return try address.serializedBytes(options: options)
        case .policy(let policy):
            return try Istio_Security_Authorization(policy).serializedBytes(options: options)
        }
    }
}

extension MeshUpdate {
    /// What a resource from the wire changes.
    ///
    /// - Throws: ``ConversionError``, or what the decoding of the message throws.
    init(name: String, typeURL: String, body: Google_Protobuf_Any) throws {
        guard body.typeURL == typeURL else {
            throw ConversionError("resource", "is of type \(body.typeURL.prefix(100))")
        }
        switch typeURL {
        case TypeURL.address:
            let address = try Istio_Workload_Address(serializedBytes: body.value)
            switch address.type {
            case .workload(let workload): self = .workload(try Workload(wire: workload))
            case .service(let service): self = .service(try Service(wire: service))
            case nil: throw ConversionError("type", "is neither workload nor service")
            }
        case TypeURL.authorization:
            let policy = try AuthorizationPolicy(wire: Istio_Security_Authorization(serializedBytes: body.value))
            self = .policy(name, policy)
        default:
            throw ConversionError("type_url", "\(typeURL.prefix(100)) is unknown")
        }
    }
}
