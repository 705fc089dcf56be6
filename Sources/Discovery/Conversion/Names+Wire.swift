import Addressing
import Foundation
import IstioAPI
import Mesh

extension IPAddress {
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
