import Mesh

/// One pod of the node and its connections, as the config dump writes it.
struct PodDocument: Encodable {
    struct Info: Encodable {
        let name: String
        let namespace: String
        /// From the pod's record; empty until there is one.
        let trustDomain: String
        let serviceAccount: String
    }
    struct Connections: Encodable {
        let inbound: [Connection]
        let outbound: [Connection]
    }
    struct Connection: Encodable {
        let src: String
        /// Inbound: the service addressed, where it is known.
        let originalDst: String?
        let actualDst: String
        let `protocol`: String
    }
    let state: String
    /// Why a pending pod is pending.
    let error: String?
    let info: Info
    let connections: Connections

    init(_ listing: PodProxy.Listing, _ mesh: MeshState) {
        func entries(_ inbound: Bool) -> [Connection] {
            listing.entries.filter { $0.inbound == inbound }.map {
                Connection(
                    src: $0.source, originalDst: $0.originalDestination, actualDst: $0.actualDestination,
                    protocol: $0.protocol)
            }.sorted { ($0.src, $0.actualDst) < ($1.src, $1.actualDst) }
        }
        state = "Up"
        error = nil
        info = Info(
            name: listing.name, namespace: listing.namespace,
            trustDomain: mesh.workload(
                namespace: listing.namespace, name: listing.name, serviceAccount: listing.serviceAccount
            )?.trustDomain ?? "", serviceAccount: listing.serviceAccount)
        connections = Connections(inbound: entries(true), outbound: entries(false))
    }

    init(_ pod: PendingPod, _ mesh: MeshState) {
        state = "Pending"
        error = pod.error
        info = Info(
            name: pod.name, namespace: pod.namespace,
            trustDomain: mesh.workload(
                namespace: pod.namespace, name: pod.name, serviceAccount: pod.serviceAccount
            )?.trustDomain ?? "", serviceAccount: pod.serviceAccount)
        connections = Connections(inbound: [], outbound: [])
    }
}
