import Addressing
import Foundation
import IstioAPI
import Mesh

extension IPAddress {
    init(wire bytes: Data, _ field: String) throws(ConversionError) {
        guard let address = IPAddress(bytes: bytes) else {
            throw ConversionError(field, "\(bytes.count) bytes are no IP address")
        }
        self = address
    }

    var wire: Data { Data(bytes) }
}

extension Istio_Workload_NetworkAddress {
    init(_ address: NetworkAddress) {
        self.init()
        network = address.network
        self.address = address.address.wire
    }

    init(_ block: NetworkCIDR) {
        self.init()
        network = block.network
        address = block.cidr.base.wire
        length = UInt32(block.cidr.length)
    }
}

extension NetworkAddress {
    init(wire: Istio_Workload_NetworkAddress, _ field: String) throws(ConversionError) {
        self.init(network: wire.network, address: try IPAddress(wire: wire.address, field))
    }
}

extension Istio_Workload_GatewayAddress {
    init(_ gateway: GatewayAddress) {
        self.init()
        switch gateway.destination {
        case .address(let address): self.address = Istio_Workload_NetworkAddress(address)
        case .hostname(let name):
            hostname.namespace = name.namespace
            hostname.hostname = name.hostname
        }
        hboneMtlsPort = UInt32(gateway.port)
    }
}

extension GatewayAddress {
    init(wire: Istio_Workload_GatewayAddress, _ field: String) throws(ConversionError) {
        let port = try WireNumber.port(wire.hboneMtlsPort, "\(field).hbone_mtls_port")
        switch wire.destination {
        case .address(let address):
            self.init(.address(try NetworkAddress(wire: address, "\(field).address")), port: port)
        case .hostname(let name):
            self.init(.hostname(NamespacedHostname(namespace: name.namespace, hostname: name.hostname)), port: port)
        case nil:
            throw ConversionError(field, "has no destination")
        }
    }
}
