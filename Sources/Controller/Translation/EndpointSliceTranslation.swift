import Addressing
import Mesh
import ObjectSource

/// Endpoints that are no pods as workloads of the mesh.
struct EndpointSliceTranslation {
    private let surroundings: Surroundings

    init(_ surroundings: Surroundings) { self.surroundings = surroundings }

    /// The service whose endpoints a slice lists.
    static func service(of slice: EndpointSlice, in objects: ObjectSnapshot) -> ServiceObject? {
        guard slice.addressType != .fqdn, let name = slice.metadata.labels[EndpointSlice.serviceNameLabel] else {
            return nil
        }
        let service = objects.services[ObjectName(namespace: slice.metadata.namespace, name: name)]
        return service?.spec.type == .externalName ? nil : service
    }

    func workloads() -> [Workload] { surroundings.objects.endpointSlices.values.flatMap(workloads) }

    func workloads(_ slice: EndpointSlice) -> [Workload] {
        let configuration = surroundings.configuration
        // Of most slices all are pods.
        guard slice.endpoints.contains(where: Self.isNoPod),
            let service = Self.service(of: slice, in: surroundings.objects)
        else { return [] }
        let services = [surroundings.key(service.metadata.objectName): Self.ports(service, slice)]
        return slice.endpoints.filter(Self.isNoPod).compactMap { endpoint in
            guard let address = endpoint.addresses.first.flatMap({ IPAddress($0) }) else { return nil }
            return Workload(
                uid: "\(configuration.clusterID)/discovery.k8s.io/EndpointSlice/\(slice.metadata.namespace)/"
                    + "\(slice.metadata.name)/\(address)",
                name: slice.metadata.name, namespace: slice.metadata.namespace, addresses: [address],
                network: surroundings.network,
                trustDomain: configuration.trustDomain, kind: .pod, services: services,
                status: endpoint.isReady == false ? .unhealthy : .healthy, clusterID: configuration.clusterID,
                networkMode: .hostNetwork)
        }
    }

    static func isNoPod(_ endpoint: SliceEndpoint) -> Bool { endpoint.target?.kind != "Pod" }

    /// The two lists belong together by the ports' names.
    private static func ports(_ service: ServiceObject, _ slice: EndpointSlice) -> PortMap {
        var map = PortMap()
        for port in service.spec.ports where port.transport == .tcp {
            guard let entry = slice.ports.first(where: { $0.name == port.name && $0.transport == .tcp }),
                let number = entry.port
            else { continue }
            map[port.port] = number
        }
        return map
    }
}
