/// How to reach an API server, and as whom.
public struct ClusterConfiguration: Sendable, Hashable {
    /// Bytes that are given, or a file that is read again whenever it changes.
    public enum Material: Sendable, Hashable {
        case bytes([UInt8])
        case file(String)
    }

    public enum Trust: Sendable, Hashable {
        /// The machine's own authorities.
        case system
        case authority(Material)
        /// Whoever answers is believed. For tests on one machine.
        case nobodyIsChecked
    }

    public enum Credentials: Sendable, Hashable {
        case none
        case token(String)
        /// Read again whenever it changes: kubelet renews it long before it expires.
        case tokenFile(String)
        case certificate(chain: Material, key: Material)
        case plugin(ExecPlugin)
    }

    /// `https://host:port`, without a path at its end.
    public var server: String
    public var trust: Trust
    /// The name the server's certificate must have, where it is not the one in ``server``.
    public var serverName: String?
    public var credentials: Credentials
    /// Where objects go that say no namespace.
    public var namespace: String

    public init(
        server: String, trust: Trust = .system, serverName: String? = nil, credentials: Credentials = .none,
        namespace: String = "default"
    ) {
        self.server = server
        self.trust = trust
        self.serverName = serverName
        self.credentials = credentials
        self.namespace = namespace
    }

    /// Where kubelet mounts a pod's account.
    public static let accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

    /// The configuration of a pod: address from the environment, token and authority from the mounted account.
    /// - Throws: `configuration` outside of a pod.
    public static func inCluster(
        environment: [String: String], folder: String = accountFolder
    ) throws(KubernetesError) -> ClusterConfiguration {
        guard let host = environment["KUBERNETES_SERVICE_HOST"], !host.isEmpty,
            let port = environment["KUBERNETES_SERVICE_PORT"], let number = UInt16(port), number > 0
        else {
            throw KubernetesError(
                .configuration, "this is no pod of a cluster",
                cause: "KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set",
                hint: "give --kubeconfig outside of a cluster")
        }
        let token = "\(folder)/token"
        guard FileStamp(token) != nil else {
            throw KubernetesError(
                .configuration, "the pod has no token of its account", cause: "there is no \(token)",
                hint: "automountServiceAccountToken may be false")
        }
        // A pod without a namespace file is not one that kubelet made; the default is as good as any.
        let namespace = (try? FileStamp.read("\(folder)/namespace")).map { String(decoding: $0, as: UTF8.self) }
        return ClusterConfiguration(
            server: "https://\(host.contains(":") ? "[\(host)]" : host):\(number)",
            trust: .authority(.file("\(folder)/ca.crt")), credentials: .tokenFile(token),
            namespace: namespace?.trimmed ?? "default")
    }
}

extension String {
    /// Without white space at its ends: a token file ends in a newline, which no header may hold.
    var trimmed: String {
        let start = drop(while: \.isWhitespace)
        return String(start.reversed().drop(while: \.isWhitespace).reversed())
    }
}
