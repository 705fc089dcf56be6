import Mesh

extension ZtunnelConfiguration {
    /// One environment variable that is understood.
    public struct Variable: Sendable {
        public enum Standing: String, Sendable {
            case istio = "Istio's"
            case ours = "ours"
            /// Known, and refused when it asks for what there is not.
            case refused = "Istio's, refused"
        }

        public let name: String
        public let standing: Standing
        public let defaultText: String
        public let meaning: String
        let expected: String
        let apply: @Sendable (inout ZtunnelConfiguration, String) -> Bool
    }

    /// Every variable, in the order of the reference table.
    public static let variables: [Variable] =
        socketVariables + selfVariables + controlPlaneVariables + identityVariables + tunnelVariables + threadVariables
        + telemetryVariables + refusedVariables

    private static let socketVariables: [Variable] = [
        Variable(
            "PROXY_MODE", default: "shared",
            "`shared`: the node's pods; `dedicated`: the workload whose network namespace ztunnel runs in",
            expected: "shared or dedicated"
        ) { configuration, value in
            guard ["shared", "dedicated"].contains(value) else { return false }
            configuration.isDedicated = value == "dedicated"
            return true
        },
        Variable(
            "PROXY_WORKLOAD_INFO", default: "-",
            "the workload of `PROXY_MODE=dedicated`: namespace/name/serviceaccount",
            expected: "namespace/name/serviceaccount"
        ) { configuration, value in
            configuration.workloadInfo = OwnWorkload(value)
            return configuration.workloadInfo != nil
        },
        flag("ENABLE_PROXY", \.proxyEnabled, "`false`: DNS alone is served; of sockets that ztunnel makes itself"),
        flag(
            "UNSTABLE_ENABLE_SOCKS5", \.socksEnabled,
            "SOCKS5 on 127.0.0.1:15080 of each pod, as a way out; of sockets that ztunnel makes itself"),
        text("INPOD_UDS", \.zdsSocket, "the keeper's socket"),
        flag("INPOD_PORT_REUSE", \.reusesPorts, "SO_REUSEPORT on listeners that ztunnel makes itself"),
        Variable(
            "PACKET_MARK", default: "1337, where dedicated none", "SO_MARK of sockets that ztunnel makes itself",
            expected: "a number from 1 to 4294967295"
        ) { configuration, value in
            guard let mark = UInt32(value), mark > 0 else { return false }
            configuration.packetMark = mark
            return true
        },
        Variable(
            "ENABLE_ORIG_SRC", default: "where possible",
            "the application sees the client's address: `true` always, `false` never", expected: "true or false"
        ) { configuration, value in
            guard let flag = Bool(value) else { return false }
            configuration.keepsOriginalSource = flag
            return true
        },
        flag("IPV6_ENABLED", \.ipv6Enabled, "IPv6: listeners on both families, AAAA answers"),
        flag(
            "KEEPALIVE_ENABLED", \.keepaliveEnabled, "TCP keep-alive of plain connections and outgoing sockets"),
        keepalive("KEEPALIVE_TIME", "180s", "idle time before the first probe", readDuration) { $0.idle = $1 },
        keepalive("KEEPALIVE_INTERVAL", "180s", "time between probes", readDuration) { $0.interval = $1 },
        keepalive(
            "KEEPALIVE_RETRIES", "9", "probes without an answer that end a connection",
            { text in Int(text).flatMap { (1...127).contains($0) ? $0 : nil } }
        ) { $0.retries = $1 },
        flag("USER_TIMEOUT_ENABLED", \.userTimeoutEnabled, "TCP_USER_TIMEOUT, as long as keep-alive takes"),
    ]

    private static let selfVariables: [Variable] = [
        text("NODE_NAME", \.nodeName, "name of this node; certificates are fetched ahead for its pods"),
        text("NETWORK", \.network, "network this node is in"),
        text("CLUSTER_ID", \.clusterID, "sent to the control plane as `clusterid`; `ISTIO_META_CLUSTER_ID` wins"),
        text("CLUSTER_DOMAIN", \.clusterDomain, "DNS domain of the cluster"),
        text("POD_NAME", \.podName, "ztunnel's own pod; known with the next two, it is served on port 15008 as well"),
        text("POD_NAMESPACE", \.podNamespace, "ztunnel's own namespace"),
        text("SERVICE_ACCOUNT", \.serviceAccount, "ztunnel's own service account"),
        text("INSTANCE_IP", \.instanceAddress, "ztunnel's own address, for its name towards the control plane"),
    ]

    private static let controlPlaneVariables: [Variable] = [
        Variable(
            "XDS_ADDRESS", default: "https://istiod.istio-system.svc:15012, outside Kubernetes https://localhost:15012",
            "discovery server, an https URL; set to nothing: none, then `LOCAL_XDS_PATH` is needed", expected: "a URL"
        ) {
            $0.xdsAddress = withScheme($1)
            return true
        },
        Variable(
            "CA_ADDRESS", default: "as `XDS_ADDRESS`", "certificate authority, an https URL", expected: "a URL"
        ) {
            $0.caAddress = withScheme($1)
            return true
        },
        text(
            "XDS_ROOT_CA", \.xdsRoots,
            "roots of the discovery server: a file, read at each connection, `SYSTEM`, or PEM"
        ),
        text("CA_ROOT_CA", \.caRoots, "roots of the certificate authority, likewise"),
        optional("ALT_XDS_HOSTNAME", \.xdsServerName, "server name to check for discovery"),
        optional("ALT_CA_HOSTNAME", \.caServerName, "server name to check for the certificate authority"),
        text("AUTH_TOKEN", \.token, "token for both: a file, read at each request and none if absent, or the token"),
        flag("XDS_ON_DEMAND", \.xdsOnDemand, "ask for workloads when they are needed; excludes the DNS proxy"),
        optional("LOCAL_XDS_PATH", \.localXDSPath, "file of workloads, policies and services"),
        optional("LOCAL_XDS", \.localXDS, "the same as text"),
        Variable(
            "PROXY_CONFIG", default: "-",
            "YAML: `discoveryAddress`, `proxyAdminPort`, `statsPort`, `concurrency`, `proxyMetadata`; "
                + "wins over `defaultConfig` of ./etc/istio/config/mesh and yields to variables",
            expected: "YAML", apply: { _, _ in true }),
    ]

    private static let identityVariables: [Variable] = [
        duration("SECRET_TTL", \.certificateLifetime, "lifetime of certificates asked for"),
        optional("CRL_PATH", \.revocationFile, "revoked certificates: PEM, many blocks, or one list as DER; watched"),
        Variable(
            "TRUST_DOMAIN", default: "cluster.local", "the local trust domain; the mesh file's `trustDomain`",
            expected: "a trust domain such as cluster.local"
        ) { configuration, value in
            guard TrustDomains.isValid(value) else { return false }
            configuration.trustDomain = value
            return true
        },
        Variable(
            "APUS_TRUST_DOMAIN_ALIASES", default: "-",
            "trust domains that count as ours, with commas between; the mesh file's `trustDomainAliases`",
            expected: "trust domains with commas between"
        ) { configuration, value in
            let names = list(value)
            guard !names.isEmpty, names.allSatisfy(TrustDomains.isValid) else { return false }
            configuration.trustDomainAliases = names
            return true
        },
        Variable(
            "COMPLIANCE_POLICY", default: "-", "`pqc`: no key exchange but X25519MLKEM768", expected: "pqc"
        ) { configuration, value in
            guard value == "pqc" else { return false }
            configuration.requiresPostQuantum = true
            return true
        },
    ]

    private static let tunnelVariables: [Variable] = [
        count(
            "POOL_MAX_STREAMS_PER_CONNECTION", \.streamsPerTunnel, 1...65535, "connections that share one tunnel"),
        duration("POOL_UNUSED_RELEASE_TIMEOUT", \.tunnelIdleTimeout, "a tunnel without connections is closed after it"),
        count("HTTP2_STREAM_WINDOW_SIZE", \.streamWindow, 65_535...(1 << 30), "bytes one connection may have unread"),
        count(
            "HTTP2_CONNECTION_WINDOW_SIZE", \.connectionWindow, 65_535...(1 << 30),
            "bytes all connections of a tunnel may have on the way"),
        count("HTTP2_FRAME_SIZE", \.frameSize, 16_384...16_777_215, "largest frame accepted, bytes"),
        flag(
            "LOCALHOST_APP_TUNNEL", \.localhostApplicationTunnel,
            "an application tunnel with the PROXY protocol ends on loopback"),
        flag("ENABLE_RESPONSE_BAGGAGE", \.responseBaggage, "baggage in answers, and belief in baggage of requests"),
        duration("APUS_CONNECT_TIMEOUT", \.connectTimeout, "for a socket of the pod and the peer's SYN-ACK"),
        duration("APUS_RESPONSE_TIMEOUT", \.responseTimeout, "for the peer's answer to CONNECT"),
        duration("APUS_CERTIFICATE_TIMEOUT", \.certificateTimeout, "for the certificate of a local pod"),
        Variable(
            "APUS_IDLE_TIMEOUT", default: "-", "a connection on which nothing moves is closed after it; not set: never",
            expected: durationText
        ) { configuration, value in
            guard let duration = readDuration(value) else { return false }
            configuration.idleTimeout = duration
            return true
        },
        duration("APUS_WORKLOAD_TIMEOUT", \.workloadTimeout, "for the control plane to tell about a local pod"),
        Variable(
            "TERMINATION_GRACE_PERIOD_SECONDS", default: "-",
            "open connections run on after SIGTERM for so long less 5 s (less 1 s up to 10), at least 1 s; "
                + "5 s when not set",
            expected: "whole seconds up to 86400"
        ) { configuration, value in
            guard let seconds = Int(value), (0...86_400).contains(seconds) else { return false }
            configuration.drainLimit = .seconds(max(1, seconds > 10 ? seconds - 5 : seconds - 1))
            return true
        },
        Variable(
            "CONNECTION_TERMINATION_DEADLINE", default: "-",
            "how long open connections run on after SIGTERM; wins over the grace period",
            expected: durationText
        ) { configuration, value in
            guard let duration = readDuration(value) else { return false }
            configuration.drainLimit = duration
            return true
        },
        optional(
            "PREFERED_SERVICE_NAMESPACE", \.preferredServiceNamespace,
            "breaks ties between services of one name in DNS answers"),
    ]

    /// Read by ``WorkerThreads``; here for the table.
    private static let threadVariables: [Variable] = [
        noted(
            "ZTUNNEL_WORKER_THREADS", "a quarter of the processors, at least 2",
            "threads that move bytes: a number, `N%` of the processors, or 0 for all; wins over `concurrency`"),
        noted("ZTUNNEL_CPU_LIMIT", "those there are", "the number of processors to go by"),
        noted(
            "ZTUNNEL_RESOURCE_CPU_LIMIT", "-", "the container's limit (`2`, `1.5`, `500m`): so many threads, rounded up"
        ),
        noted("ZTUNNEL_RESOURCE_CPU_REQUEST", "-", "the container's request: at least so many threads"),
    ]

    private static let telemetryVariables: [Variable] = [
        Variable(
            "RUST_LOG", default: "info", "log levels: `info`, or `target=level` separated by commas",
            expected: "info, or target=level separated by commas"
        ) { configuration, value in configuration.logFilter.add(value) },
        Variable(
            "LOG_FORMAT", default: "text", "format of both logs: `text` or `json`", expected: "text, plain or json"
        ) { configuration, value in
            guard ["text", "plain", "json"].contains(value) else { return false }
            configuration.jsonLogs = value == "json"
            return true
        },
        flag("AUTHZ_POLICY_INFO_LOGGING", \.logsPolicyDecisions, "policy decisions at level info rather than debug"),
        endpoint("APUS_ADMIN_ADDRESS", \.adminAddress, "where the admin server listens"),
        endpoint("APUS_STATS_ADDRESS", \.statsAddress, "where metrics are served"),
        endpoint("APUS_READINESS_ADDRESS", \.readinessAddress, "where readiness is served"),
        noted(
            "ISTIO_META_*", "-",
            "told to the control plane; `DNS_CAPTURE`, `DNS_PROXY_ADDR`, `CLUSTER_ID` and `ISTIO_VERSION` count here too"
        ),
        noted("ISTIO_METAJSON_*", "-", "told to the control plane as JSON"),
        noted("XDS_HEADER_*", "-", "metadata of requests for discovery"),
        noted("CA_HEADER_*", "-", "metadata of requests for certificates"),
    ]

    private static let refusedVariables: [Variable] = [
        refused("FAKE_CA", unless: "false", "certificates that prove nothing are not made"),
        refused("TLS12_ENABLED", unless: "false", "TLS 1.3 is spoken alone"),
    ]
}
