import Addressing
import Identity
import Observability

/// Everything an operator can set on ztunnel. The names are Istio's environment variables where those exist.
public struct ZtunnelConfiguration: Sendable {
    // MARK: Sockets

    /// `INPOD_UDS`: the keeper's socket.
    public var zdsSocket = "/var/run/ztunnel/ztunnel.sock"
    /// `--own-sockets`: pods' sockets are made here, in the namespaces that a control side of plain ZDS sends, instead of
    /// being handed over by apus-sockets.
    public var makesOwnSockets = false
    /// `ENABLE_PROXY`: connections are served, and not DNS alone.
    public var proxyEnabled = true
    /// `UNSTABLE_ENABLE_SOCKS5`: a SOCKS5 port on each pod's loopback.
    public var socksEnabled = false
    /// `INPOD_PORT_REUSE`: SO_REUSEPORT on listeners that ztunnel makes itself.
    public var reusesPorts = true
    /// `PACKET_MARK`: SO_MARK of sockets that ztunnel makes itself; when not set 0x539 in pods, and none where ztunnel is
    /// dedicated to a workload.
    public var packetMark: UInt32?
    /// `ENABLE_ORIG_SRC`: whether the application sees the client's own address; `nil` where that is possible.
    public var keepsOriginalSource: Bool?
    /// `IPV6_ENABLED`: listeners on both families, AAAA answers.
    public var ipv6Enabled = true
    /// `KEEPALIVE_ENABLED`: TCP keep-alive of plain connections and outgoing sockets.
    public var keepaliveEnabled = true
    /// `KEEPALIVE_TIME`, `KEEPALIVE_INTERVAL`, `KEEPALIVE_RETRIES`.
    public var keepalive = Keepalive()
    /// `USER_TIMEOUT_ENABLED`: TCP_USER_TIMEOUT of ``Keepalive/userTimeout``.
    public var userTimeoutEnabled = false

    public struct Keepalive: Sendable, Hashable {
        public var idle: Duration = .seconds(180)
        public var interval: Duration = .seconds(180)
        public var retries = 9

        /// When a silent peer counts as gone: idle time and all probes.
        public var userTimeout: Duration { idle + interval * retries }
    }

    // MARK: Whom we serve

    /// `PROXY_MODE=dedicated`: the workload of ``workloadInfo`` instead of the node's pods.
    public var isDedicated = false
    /// `PROXY_WORKLOAD_INFO`.
    public var workloadInfo: OwnWorkload?
    /// Where ztunnel's own sockets are made; the namespace of the process when not set, as it is outside of tests.
    var ownNetwork: PodNetwork?

    // MARK: Who we are

    /// `NODE_NAME`: this node; certificates are fetched ahead for its workloads.
    public var nodeName = ""
    /// `NETWORK`: the network this node is in; empty where there is only one.
    public var network = ""
    /// `ISTIO_META_CLUSTER_ID`, else `CLUSTER_ID`: sent to the control plane.
    public var clusterID = "Kubernetes"
    /// `CLUSTER_DOMAIN`.
    public var clusterDomain = "cluster.local"
    /// `POD_NAME`, `POD_NAMESPACE`, `SERVICE_ACCOUNT`, `INSTANCE_IP`: ztunnel's own.
    public var podName = ""
    public var podNamespace = ""
    public var serviceAccount = ""
    public var instanceAddress = "1.1.1.1"
    /// `ISTIO_META_*` and `proxyMetadata`, without the prefix: what the control plane is told about us.
    public var metadata: [String: String] = [:]
    /// `ISTIO_METAJSON_*`, without the prefix: texts of JSON.
    public var jsonMetadata: [String: String] = [:]

    // MARK: The control plane

    /// `XDS_ADDRESS`, else `discoveryAddress`: https URL of the discovery server; empty: there is none.
    public var xdsAddress = "https://istiod.istio-system.svc:15012"
    /// `CA_ADDRESS`: https URL of the certificate authority.
    public var caAddress = "https://istiod.istio-system.svc:15012"
    /// `XDS_ROOT_CA`: file with the roots the discovery server is checked against, `SYSTEM`, or PEM.
    public var xdsRoots = "/var/run/secrets/istio/root-cert.pem"
    /// `CA_ROOT_CA`, likewise.
    public var caRoots = "/var/run/secrets/istio/root-cert.pem"
    /// `ALT_XDS_HOSTNAME`: the server name to check when the address is not one.
    public var xdsServerName: String?
    /// `ALT_CA_HOSTNAME`.
    public var caServerName: String?
    /// `AUTH_TOKEN`: file with the token for both, read again at each request, or the token itself; empty: none.
    public var token = "/var/run/secrets/tokens/istio-token"
    /// `XDS_HEADER_*` and `CA_HEADER_*`, without the prefix and in lower case.
    public var xdsHeaders: [String: String] = [:]
    public var caHeaders: [String: String] = [:]
    /// `XDS_ON_DEMAND`: ask for workloads when they are needed.
    public var xdsOnDemand = false
    /// `LOCAL_XDS_PATH` and `LOCAL_XDS`: a file, or the text itself, of workloads, policies and services.
    public var localXDSPath: String?
    public var localXDS: String?

    // MARK: Identity

    /// `SECRET_TTL`: lifetime asked for.
    public var certificateLifetime: Duration = .seconds(24 * 3600)
    /// `CRL_PATH`: revoked certificates.
    public var revocationFile: String?
    /// `TRUST_DOMAIN`, else the mesh file's `trustDomain`.
    public var trustDomain = "cluster.local"
    /// `APUS_TRUST_DOMAIN_ALIASES`, else the mesh file's `trustDomainAliases`: trust domains that count as our own.
    public var trustDomainAliases: [String] = []
    /// The mesh file's `caCertificates`: roots beside those that come with our certificates.
    public var trustBundles: [TrustBundle] = []
    /// `COMPLIANCE_POLICY=pqc`: no key exchange but X25519MLKEM768.
    public var requiresPostQuantum = false

    // MARK: Tunnels

    /// `ZTUNNEL_WORKER_THREADS` and others: threads that move bytes.
    public var workers = 2
    /// `POOL_MAX_STREAMS_PER_CONNECTION`.
    public var streamsPerTunnel = 100
    /// `POOL_UNUSED_RELEASE_TIMEOUT`: a tunnel without streams is closed after so long.
    public var tunnelIdleTimeout: Duration = .seconds(300)
    /// `HTTP2_STREAM_WINDOW_SIZE`, `HTTP2_CONNECTION_WINDOW_SIZE`, `HTTP2_FRAME_SIZE`, in bytes.
    public var streamWindow = 4 << 20
    public var connectionWindow = 16 << 20
    public var frameSize = 1 << 20
    /// `LOCALHOST_APP_TUNNEL`: an application tunnel with the PROXY protocol ends on loopback.
    public var localhostApplicationTunnel = true
    /// `ENABLE_RESPONSE_BAGGAGE`: baggage in answers, and belief in baggage of requests.
    public var responseBaggage = true
    /// `APUS_CONNECT_TIMEOUT`: waiting for a socket of the pod and for the peer's SYN-ACK.
    public var connectTimeout: Duration = .seconds(10)
    /// `APUS_RESPONSE_TIMEOUT`: waiting for the peer's answer to CONNECT, which includes its connect to the app.
    public var responseTimeout: Duration = .seconds(15)
    /// `APUS_CERTIFICATE_TIMEOUT`: waiting for the certificate of a local pod.
    public var certificateTimeout: Duration = .seconds(15)
    /// `APUS_IDLE_TIMEOUT`: a connection on which nothing moves is closed after it; `nil` for never.
    public var idleTimeout: Duration?
    /// `APUS_WORKLOAD_TIMEOUT`: waiting for the control plane to tell about a local pod.
    public var workloadTimeout: Duration = .seconds(5)
    /// `CONNECTION_TERMINATION_DEADLINE`, else `TERMINATION_GRACE_PERIOD_SECONDS` less a margin: how long open
    /// connections may run on after SIGTERM.
    public var drainLimit: Duration = .seconds(5)
    /// Announces itself as the successor of a ztunnel that is running.
    public var isSuccessor = false

    // MARK: DNS

    /// `ISTIO_META_DNS_CAPTURE`: whether DNS is served to pods that capture it.
    public var dnsProxyEnabled = true
    /// `ISTIO_META_DNS_PROXY_ADDR`: where, when ztunnel binds the listener itself: `localhost:port` or an address.
    public var dnsProxyAddress = "localhost:15053"
    /// `PREFERED_SERVICE_NAMESPACE`: breaks ties between services of one name.
    public var preferredServiceNamespace: String?

    // MARK: What is told

    /// `ISTIO_META_ISTIO_VERSION`: the tag of `istio_build`; our own version when there is none.
    public var istioVersion: String?
    /// `RUST_LOG`.
    public var logFilter = LogFilter(.info)
    /// `LOG_FORMAT`: text or json.
    public var jsonLogs = false
    /// `AUTHZ_POLICY_INFO_LOGGING`: policy decisions at level info rather than debug.
    public var logsPolicyDecisions = false
    /// The access log's file; standard output when there is none.
    public var accessLogFile: String?
    /// Where the admin server (15000), metrics (15020) and readiness (15021) listen.
    public var adminAddress = Endpoint(.loopbackV4, 15000)
    public var statsAddress = Endpoint(.anyV4, 15020)
    public var readinessAddress = Endpoint(.anyV4, 15021)

    public init() {}
}
