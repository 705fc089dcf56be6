import Foundation
import Identity
import Mesh

/// What ztunnel knows and does, as the JSON document that `istioctl ztunnel-config` reads.
struct ConfigDump: Encodable {
    struct CertificateEntry: Encodable {
        struct Detail: Encodable {
            /// Base64 of the PEM text.
            let pem: String
            let serialNumber: String
            let validFrom: String
            let expirationTime: String
        }
        let identity: String
        let state: String
        let certChain: [Detail]
        let rootCerts: [Detail]
    }

    struct PodEntry: Encodable {
        struct Info: Encodable {
            let name: String
            let namespace: String
            let serviceAccount: String
        }
        struct Connections: Encodable {
            let inbound: [Connection]
            let outbound: [Connection]
        }
        struct Connection: Encodable {
            let src: String
            let originalDst: String?
            let actualDst: String
            let `protocol`: String
        }
        let state: String
        let info: Info
        let connections: Connections
    }

    struct WorkloadEntry: Encodable {
        let uid: String
        let workloadIps: [String]
        let `protocol`: String
        let name: String
        let namespace: String
        let serviceAccount: String
        let workloadName: String
        let workloadType: String
        let canonicalName: String
        let canonicalRevision: String
        let trustDomain: String
        let clusterId: String
        let node: String
        let network: String
        let status: String
        let authorizationPolicies: [String]
        let services: [String]
        let capacity: UInt32
    }

    struct ServiceEntry: Encodable {
        let name: String
        let namespace: String
        let hostname: String
        let vips: [String]
        let ports: [String: UInt16]
        let endpoints: [String]
    }

    struct PolicyEntry: Encodable {
        let key: String
        let name: String
        let namespace: String
        let scope: String
        let action: String
        let rules: Int
        let dryRun: Bool
    }

    struct Version: Encodable {
        let version: String
    }

    var workloads: [WorkloadEntry]
    var services: [ServiceEntry]
    var policies: [PolicyEntry]
    var certificates: [CertificateEntry]
    var workloadState: [String: PodEntry]
    var version: Version

    func json() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
    }
}

extension ConfigDump {
    init(
        _ state: MeshState, certificates statuses: [CertificateManager.Status], pods: [String: PodProxy.Listing],
        version: String
    ) {
        workloads = state.workloads.sorted { $0.uid < $1.uid }.map(WorkloadEntry.init)
        services = state.services.sorted { $0.key < $1.key }.map { ServiceEntry($0, state) }
        policies = state.policies.sorted { $0.key < $1.key }.map { PolicyEntry($0.key, $0.policy) }
        certificates = statuses.map(CertificateEntry.init)
        workloadState = pods.mapValues(PodEntry.init)
        self.version = Version(version: version)
    }
}

extension ConfigDump.WorkloadEntry {
    init(_ workload: Workload) {
        uid = workload.uid
        workloadIps = workload.addresses.map(\.description)
        self.protocol = workload.tunnelProtocol == .hbone ? "HBONE" : "TCP"
        name = workload.name
        namespace = workload.namespace
        serviceAccount = workload.serviceAccount
        workloadName = workload.workloadName
        workloadType = workload.kind.rawValue
        canonicalName = workload.canonicalName
        canonicalRevision = workload.canonicalRevision
        trustDomain = workload.trustDomain
        clusterId = workload.clusterID
        node = workload.node
        network = workload.network
        status = workload.status == .healthy ? "Healthy" : "Unhealthy"
        authorizationPolicies = workload.authorizationPolicies
        services = workload.services.keys.sorted().map(\.description)
        capacity = workload.capacity
    }
}

extension ConfigDump.ServiceEntry {
    init(_ service: Service, _ state: MeshState) {
        name = service.name
        namespace = service.namespace
        hostname = service.hostname
        vips = service.addresses.map(\.description)
        ports = Dictionary(
            service.ports.map { (String($0.servicePort), $0.targetPort) }, uniquingKeysWith: { first, _ in first })
        endpoints = state.endpoints(of: service.key).map(\.uid).sorted()
    }
}

extension ConfigDump.PolicyEntry {
    init(_ key: String, _ policy: AuthorizationPolicy) {
        self.key = key
        name = policy.name
        namespace = policy.namespace
        scope = "\(policy.scope)"
        action = "\(policy.action)"
        rules = policy.rules.count
        dryRun = policy.dryRun
    }
}

extension ConfigDump.CertificateEntry {
    init(_ status: CertificateManager.Status) {
        identity = status.identity.description
        // A certificate that is in force is available, whatever became of the attempt to renew it.
        state =
            status.state == .unavailable
            ? "\(status.state.rawValue): \(status.error.map { "\($0)" } ?? "-")" : status.state.rawValue
        certChain = status.chain.map(Detail.init)
        rootCerts = status.roots.map(Detail.init)
    }
}

extension ConfigDump.CertificateEntry.Detail {
    init(_ certificate: CertificateDetail) {
        pem = Data(certificate.pem.utf8).base64EncodedString()
        serialNumber = certificate.serialNumber
        validFrom = certificate.notBefore.ISO8601Format()
        expirationTime = certificate.notAfter.ISO8601Format()
    }
}

extension ConfigDump.PodEntry {
    init(_ listing: PodProxy.Listing) {
        func entries(_ inbound: Bool) -> [Connection] {
            listing.entries.filter { $0.inbound == inbound }.map {
                Connection(
                    src: $0.source, originalDst: $0.originalDestination, actualDst: $0.actualDestination,
                    protocol: $0.protocol)
            }
        }
        state = "Up"
        info = Info(name: listing.name, namespace: listing.namespace, serviceAccount: listing.serviceAccount)
        connections = Connections(inbound: entries(true), outbound: entries(false))
    }
}
