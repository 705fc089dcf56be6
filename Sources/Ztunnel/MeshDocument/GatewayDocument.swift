import Addressing
import Mesh

/// Where a waypoint or a gateway is: `network/ip` or `namespace/hostname`, and its HBONE port.
struct GatewayDocument: Codable, Equatable {
    var destination: String
    var hboneMtlsPort: UInt16

    enum CodingKeys: String, CodingKey, CaseIterable { case destination, hboneMtlsPort }

    init(_ gateway: GatewayAddress) {
        destination =
            switch gateway.destination {
            case .address(let address): address.description
            case .hostname(let name): name.description
            }
        hboneMtlsPort = gateway.port
    }

    init(from decoder: any Decoder) throws {
        let fields = try StrictFields<CodingKeys>(decoder)
        destination = try fields.required(.destination)
        hboneMtlsPort = try fields.value(.hboneMtlsPort, or: MeshPorts.hbone)
        guard Self.destination(destination) != nil else {
            throw fields.error(.destination, "\(destination) is neither network/ip nor namespace/hostname")
        }
    }

    var gateway: GatewayAddress? { Self.destination(destination).map { GatewayAddress($0, port: hboneMtlsPort) } }

    private static func destination(_ text: String) -> GatewayAddress.Destination? {
        if let address = NetworkAddress(text) { return .address(address) }
        return NamespacedHostname(text).map { .hostname($0) }
    }
}
