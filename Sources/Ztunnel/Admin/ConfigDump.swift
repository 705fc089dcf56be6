import Foundation
import Identity
import Mesh

/// What ztunnel knows and does, as the JSON document that `istioctl ztunnel-config` reads. Workloads, services and
/// policies have the shapes of the local configuration and can be fed to `LOCAL_XDS_PATH`.
struct ConfigDump: Encodable {
    struct Version: Encodable {
        let version: String
    }

    /// What was given at the start and does not change.
    struct StaticConfiguration: Encodable {
        let localMesh: String?
    }

    struct Configuration: Encodable {
        let xdsAddress: String
        let caAddress: String
        let clusterId: String
        let clusterDomain: String
        let network: String
        let localNode: String
        let inpodUds: String
        let workers: Int
        let accessLogFile: String?
    }

    var workloads: [WorkloadDocument]
    var services: [ServiceDocument]
    var policies: [PolicyDocument]
    /// Endpoints of services that nobody has told about yet, by service and uid.
    var stagedServices: [String: [String: ServiceDocument.Endpoint]]
    var staticConfig: StaticConfiguration
    var version: Version
    var config: Configuration
    var certificates: [CertificateDocument]
    var workloadState: [String: PodDocument]

    func json() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
    }
}

extension ConfigDump {
    init(
        _ state: MeshState, certificates statuses: [CertificateManager.Status], pods: [String: PodProxy.Listing],
        pending: [String: PendingPod], configuration: ZtunnelConfiguration, version: String
    ) {
        workloads = state.workloads.sorted { $0.uid < $1.uid }.map(WorkloadDocument.init)
        services = state.services.sorted { $0.key < $1.key }.map {
            ServiceDocument($0, endpoints: state.endpoints(of: $0.key))
        }
        policies = state.policies.sorted { $0.key < $1.key }.map { PolicyDocument($0.policy) }
        stagedServices = [:]
        for workload in state.workloads {
            for key in workload.services.keys where state.service(key) == nil {
                stagedServices[key.description, default: [:]][workload.uid] = .init(workload, of: key)
            }
        }
        staticConfig = StaticConfiguration(
            localMesh: configuration.localXDSPath ?? configuration.localXDS.map { _ in "LOCAL_XDS" })
        self.version = Version(version: version)
        config = Configuration(
            xdsAddress: configuration.xdsAddress, caAddress: configuration.caAddress,
            clusterId: configuration.clusterID, clusterDomain: configuration.clusterDomain,
            network: configuration.network, localNode: configuration.nodeName, inpodUds: configuration.zdsSocket,
            workers: configuration.workers, accessLogFile: configuration.accessLogFile)
        certificates = statuses.map(CertificateDocument.init)
        workloadState = pending.mapValues { PodDocument($0, state) }
        for (uid, listing) in pods { workloadState[uid] = PodDocument(listing, state) }
    }
}
