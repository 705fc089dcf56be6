import Addressing
import Discovery
import Identity

/// Everything an operator can set on ztunnel. The names are Istio's environment variables where those exist.
public struct ZtunnelConfiguration: Sendable {
    /// `INPOD_UDS`: the keeper's socket.
    public var zdsSocket = "/var/run/ztunnel/ztunnel.sock"
    /// `NODE_NAME`: this node; certificates are fetched ahead for its workloads.
    public var nodeName = ""
    /// `NETWORK`: the network this node is in; empty where there is only one.
    public var network = ""
    /// `CLUSTER_ID`: sent to the control plane.
    public var clusterID = "Kubernetes"
    /// `CLUSTER_DOMAIN`.
    public var clusterDomain = "cluster.local"
    /// `XDS_ADDRESS`: https URL of the discovery server.
    public var xdsAddress = "https://istiod.istio-system.svc:15012"
    /// `CA_ADDRESS`: https URL of the certificate authority.
    public var caAddress = "https://istiod.istio-system.svc:15012"
    /// `XDS_ROOT_CA`: file with the roots the discovery server is checked against; read again at each connection.
    public var xdsRootFile = "/var/run/secrets/istio/root-cert.pem"
    /// `CA_ROOT_CA`.
    public var caRootFile = "/var/run/secrets/istio/root-cert.pem"
    /// `ALT_XDS_HOSTNAME`: the server name to check when the address is not one.
    public var xdsServerName: String?
    /// `ALT_CA_HOSTNAME`.
    public var caServerName: String?
    /// `AUTH_TOKEN`: file with the token for both; read again at each request.
    public var tokenFile = "/var/run/secrets/tokens/istio-token"
    /// `SECRET_TTL`: lifetime asked for.
    public var certificateLifetime: Duration = .seconds(24 * 3600)
    /// `POD_NAME`, `POD_NAMESPACE`, `INSTANCE_IP`: ztunnel's own, part of its name towards the control plane.
    public var podName = ""
    public var podNamespace = ""
    public var instanceAddress = "1.1.1.1"
    /// `ZTUNNEL_WORKER_THREADS`: threads that move bytes.
    public var workers = 2
    /// `POOL_MAX_STREAMS_PER_CONNECTION`.
    public var streamsPerTunnel = 100
    /// `POOL_UNUSED_RELEASE_TIMEOUT`: a tunnel without streams is closed after so long.
    public var tunnelIdleTimeout: Duration = .seconds(300)
    /// `HTTP2_STREAM_WINDOW_SIZE`, `HTTP2_CONNECTION_WINDOW_SIZE`, `HTTP2_FRAME_SIZE`, in bytes.
    public var streamWindow = 4 << 20
    public var connectionWindow = 16 << 20
    public var frameSize = 1 << 20
    /// `APUS_CONNECT_TIMEOUT`: waiting for a socket of the pod and for the peer's SYN-ACK.
    public var connectTimeout: Duration = .seconds(10)
    /// `APUS_RESPONSE_TIMEOUT`: waiting for the peer's answer to CONNECT, which includes its connect to the app.
    public var responseTimeout: Duration = .seconds(15)
    /// `APUS_WORKLOAD_TIMEOUT`: waiting for the control plane to tell about a local pod.
    public var workloadTimeout: Duration = .seconds(5)
    /// `TERMINATION_GRACE_PERIOD_SECONDS` less a margin: how long open connections may run on after SIGTERM.
    public var drainLimit: Duration = .seconds(5)
    /// Announces itself as the successor of a ztunnel that is running.
    public var isSuccessor = false
    /// `LOG_FORMAT`: text or json.
    public var jsonLogs = false
    /// The access log's file; standard output when there is none.
    public var accessLogFile: String?
    /// Where the admin server (15000), metrics (15020) and readiness (15021) listen.
    public var adminAddress = Endpoint(.loopbackV4, 15000)
    public var statsAddress = Endpoint(.anyV4, 15020)
    public var readinessAddress = Endpoint(.anyV4, 15021)

    public init() {}
}

extension ZtunnelConfiguration {
    /// Where the mesh is learnt from.
    public var discovery: DiscoverySettings {
        DiscoverySettings(
            address: xdsAddress, serverName: xdsServerName, roots: .file(xdsRootFile), token: .file(tokenFile),
            clusterID: clusterID,
            node: DiscoveryNode(
                nodeName: nodeName, podName: podName, podNamespace: podNamespace, instanceAddress: instanceAddress))
    }

    /// Where certificates come from.
    public var certificateService: CertificateServiceSettings {
        CertificateServiceSettings(
            address: caAddress, rootFile: caRootFile, tokenFile: tokenFile, serverName: caServerName,
            clusterID: clusterID)
    }
}
