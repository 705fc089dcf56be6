public import Addressing
public import Kubernetes
public import ObjectSource

/// What a controller of a cluster needs to know to start.
public struct ClusterControllerSettings: Sendable {
    /// How callers' tokens are checked.
    public enum TokenCheck: Sendable {
        /// By the API server's TokenReview.
        case review
        /// By the cluster's public keys in a file (JSON Web Key Set), without asking the cluster.
        case keys(file: String, issuer: String)
    }

    /// Where discovery and certificates are served; port 0 lets the system choose.
    public var listen: Endpoint
    /// Where metrics and readiness are served; `nil` for nowhere.
    public var admin: Endpoint?
    public var mesh = MeshConfiguration()
    /// The controller's own namespace: of its Lease and of the authority's Secrets.
    public var namespace = MeshLabel.rootNamespace
    /// This replica's name and no other's.
    public var identity: String
    /// A folder with a user's authority (`ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`); `nil` for the
    /// Secret `cacerts`, and without that one an authority of the mesh's own.
    public var authorityFolder: String?
    public var tokenCheck = TokenCheck.review
    /// A caller's token must be for one of them.
    public var audiences = ["istio-ca"]
    /// Service accounts whose pods may ask for identities of pods on their node.
    public var nodeAccounts: Set<ObjectName> = [ObjectName(namespace: MeshLabel.rootNamespace, name: "ztunnel")]
    /// Istio's mesh configuration as it was read at the start; `nil` when nobody looks at it.
    var meshConfig: IstioMeshConfig?
    /// Follow the clusters that Secrets of the own namespace name (label `istio/multiCluster`).
    public var followsOtherClusters = false
    /// Times of the election of who writes.
    public var election = LeaderElection.Settings()
    public var reflection = ReflectorSettings()

    public init(listen: Endpoint, admin: Endpoint? = nil, identity: String) {
        self.listen = listen
        self.admin = admin
        self.identity = identity
    }

    /// What the controller follows.
    public static let interests: [ObjectKind] = [
        .namespace, .node, .pod, .service, .endpointSlice, .authorizationPolicy, .peerAuthentication, .serviceEntry,
        .workloadEntry, .gateway, .gatewayClass,
    ]
    /// What it follows of other clusters.
    static let remoteInterests: [ObjectKind] = [
        .namespace, .node, .pod, .service, .endpointSlice, .gateway, .gatewayClass,
    ]
    /// The Lease of the one that writes.
    public static let lease = "apus-controller"
}
