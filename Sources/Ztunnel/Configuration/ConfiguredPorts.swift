import Addressing
import LinuxNetwork
import Mesh

/// What the settings say of ztunnel's ports.
extension ZtunnelConfiguration {
    /// Where the DNS proxy's own listeners are bound: one address, or loopback's of both families.
    var dnsListenAddresses: [Endpoint] {
        if let endpoint = Endpoint(dnsProxyAddress) { return [endpoint] }
        let port = dnsProxyAddress.split(separator: ":").last.flatMap { UInt16($0) } ?? ZtunnelPort.dns
        return [Endpoint(.loopbackV4, port), Endpoint(.loopbackV6, port)]
    }

    /// Ports that lead back to ztunnel: nobody is connected to them.
    var illegalPorts: Set<UInt16> {
        socksEnabled ? MeshPorts.illegal.union([ZtunnelPort.socks]) : MeshPorts.illegal
    }
}
