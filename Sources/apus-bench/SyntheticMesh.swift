import Addressing
import Discovery
import Foundation
import IstioAPI
import Mesh

/// A mesh of made-up pods behind services, with names as long as real ones: ten pods a node, each an endpoint of one
/// service, in namespaces of twenty services.
struct SyntheticMesh {
    let workloads: Int
    let services: Int

    /// Resources in one response.
    private static let batch = 25_000

    func namespace(ofService index: Int) -> String { "namespace-\(index / 20)" }
    func hostname(ofService index: Int) -> String {
        "service-\(index).\(namespace(ofService: index)).svc.cluster.local"
    }

    func service(_ index: Int) -> Service {
        Service(
            name: "service-\(index)", namespace: namespace(ofService: index), hostname: hostname(ofService: index),
            addresses: [NetworkAddress(address: IPAddress(v4: 0x0a60_0000 + UInt32(index)))],
            ports: [.init(80, target: 8080, appProtocol: .http11), .init(9090, target: 9090)],
            loadBalancing: index % 2 == 0
                ? nil : LoadBalancing(preferences: [.region, .zone, .subzone], mode: .failover),
            canonical: true)
    }

    func workload(_ index: Int) -> Workload {
        let service = index % services
        let namespace = namespace(ofService: service)
        let node = index / 10
        let suffix = String(UInt64(index) &* 0x9e37_79b9_7f4a_7c15, radix: 36).prefix(5)
        let name =
            "service-\(service)-\(String(UInt64(service) &* 0xff51_afd7_ed55_8ccd, radix: 36).prefix(9))-\(suffix)"
        return Workload(
            uid: "Kubernetes//Pod/\(namespace)/\(name)", name: name, namespace: namespace,
            addresses: [IPAddress(v4: 0x0b00_0000 + UInt32(index))], tunnelProtocol: .hbone,
            serviceAccount: "service-\(service)-account", node: "node-pool-a-\(node).example.internal",
            canonicalName: "service-\(service)", canonicalRevision: "v\(service % 3)", kind: .deployment,
            workloadName: "service-\(service)",
            services: [
                NamespacedHostname(namespace: namespace, hostname: hostname(ofService: service)): [
                    80: 8080, 9090: 9090,
                ]
            ], clusterID: "Kubernetes",
            locality: Locality(region: "europe-west1", zone: "europe-west1-\(["b", "c", "d"][node % 3])"))
    }

    /// Writes the responses, each behind its length in four bytes.
    func write(to path: String) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let file = FileHandle(forWritingAtPath: path)
        else { throw BenchError("cannot write \(path)") }
        defer { try? file.close() }  // What it held is written already, or the write has thrown.
        let total = services + workloads
        for start in stride(from: 0, to: total, by: Self.batch) {
            var response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()
            response.typeURL = TypeURL.address
            response.nonce = String(start)
            for index in start..<min(start + Self.batch, total) {
                let resource: MeshResource =
                    index < services ? .service(service(index)) : .workload(workload(index - services))
                var wire = Envoy_Service_Discovery_V3_Resource()
                wire.name = resource.name
                wire.aliases = resource.aliases
                wire.version = String(index, radix: 16)
                wire.resource.typeURL = TypeURL.address
                wire.resource.value = try resource.encoded()
                response.resources.append(wire)
            }
            let body = try response.serializedData()
            try file.write(contentsOf: withUnsafeBytes(of: UInt32(body.count).bigEndian) { Data($0) })
            try file.write(contentsOf: body)
        }
    }
}
