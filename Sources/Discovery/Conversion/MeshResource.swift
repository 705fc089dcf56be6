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
    package func encoded() throws -> Data {
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
