/// The labels of the connection metrics, in the fixed order of ``names``.
///
/// A value that is not known is `unknown`; the localities are empty, which means absent, when no workload is known.
public struct TelemetryLabels: Hashable, Sendable {
    public enum Reporter: String, Hashable, Sendable { case source, destination }
    public enum Security: String, Hashable, Sendable {
        case mutualTLS = "mutual_tls"
        case unknown
    }

    /// How a connection ended.
    public enum ResponseFlag: String, Hashable, Sendable, CaseIterable {
        case none = "-"
        case denied = "DENY"
        case connectFailure = "CONNECT"
        case tlsFailure = "TLS_FAILURE"
        case http2HandshakeFailure = "H2_HANDSHAKE_FAILURE"
        case networkPolicy = "NETWORK_POLICY"
        case identityError = "IDENTITY_ERROR"
        case certificateRevoked = "CERT_REVOKED"
        /// Ours: the peer answered that it cannot reach the application.
        case applicationUnreachable = "UNREACHABLE"
        /// Ours: the workload has as many connections as it may, or they begin too fast.
        case limited = "LIMIT"
    }

    /// One end of a connection.
    public struct Peer: Hashable, Sendable {
        public var workloadName = ""
        public var canonicalName = ""
        public var canonicalRevision = ""
        public var namespace = ""
        public var clusterID = ""
        public var region = ""
        public var zone = ""
        /// As certificates prove it, `spiffe://` and all; at the source from TLS only.
        public var principal: SPIFFEIdentity?
        /// Whether a workload record or baggage says who it is.
        public var isKnown = false

        /// Nobody the mesh knows.
        public init(principal: SPIFFEIdentity? = nil) { self.principal = principal }

        public init(_ workload: Workload, principal: SPIFFEIdentity?) {
            workloadName = workload.workloadName
            canonicalName = workload.canonicalName
            canonicalRevision = workload.canonicalRevision
            namespace = workload.namespace
            clusterID = workload.clusterID
            region = workload.locality.region
            zone = workload.locality.zone
            self.principal = principal
            isKnown = true
        }

        /// What a peer says of itself, behind what its workload record says.
        public init(_ baggage: Baggage, workload: Workload?, principal: SPIFFEIdentity?) {
            let record = workload.map { Peer($0, principal: principal) } ?? Peer(principal: principal)
            func pick(_ known: String, _ said: String) -> String { known.isEmpty ? said : known }
            workloadName = pick(record.workloadName, baggage.workloadName)
            canonicalName = pick(record.canonicalName, baggage.canonicalName)
            canonicalRevision = pick(record.canonicalRevision, baggage.canonicalRevision)
            namespace = pick(record.namespace, baggage.namespace)
            clusterID = pick(record.clusterID, baggage.clusterID)
            region = pick(record.region, baggage.region)
            zone = pick(record.zone, baggage.zone)
            self.principal = principal
            isKnown = workload != nil || !baggage.isEmpty
        }

        fileprivate var values: [String] {
            [
                workloadName, canonicalName, canonicalRevision, namespace, principal?.description ?? "",
                canonicalName, canonicalRevision, clusterID,
            ]
        }
    }

    /// Label names, in the order of ``values``.
    public static let names: [String] =
        ["reporter"] + peerNames("source")
        + ["destination_service", "destination_service_namespace", "destination_service_name"]
        + peerNames("destination") + ["request_protocol", "response_flags", "connection_security_policy"]
        + ["source_region", "source_zone", "destination_region", "destination_zone"]

    /// Names of the eight labels of a source alone, as other metrics use them.
    public static let sourceNames: [String] = peerNames("source")

    /// One value a name.
    public let values: [String]

    public init(
        reporter: Reporter, source: Peer, destination: Peer, service: Service?, flag: ResponseFlag = .none,
        security: Security
    ) {
        let service = [service?.hostname ?? "", service?.namespace ?? "", service?.name ?? ""]
        let core =
            [reporter.rawValue] + source.values + service + destination.values
            + ["tcp", flag.rawValue, security.rawValue]
        let localities = [source.region, source.zone, destination.region, destination.zone]
        let anyKnown = source.isKnown || destination.isKnown
        values = core.map(Self.orUnknown) + (anyKnown ? localities.map(Self.orUnknown) : localities.map { _ in "" })
    }

    private init(values: [String]) { self.values = values }

    /// The same labels with another flag: closed and failed connections say how they ended.
    public func with(_ flag: ResponseFlag) -> TelemetryLabels {
        var values = values
        values[Self.flagIndex] = flag.rawValue
        return TelemetryLabels(values: values)
    }

    /// The values of ``sourceNames``.
    public var sourceValues: [String] { Array(values[1...Self.sourceNames.count]) }

    private static let flagIndex = names.firstIndex(of: "response_flags") ?? 0

    private static func orUnknown(_ value: String) -> String { value.isEmpty ? "unknown" : value }

    private static func peerNames(_ side: String) -> [String] {
        [
            "workload", "canonical_service", "canonical_revision", "workload_namespace", "principal", "app", "version",
            "cluster",
        ].map { "\(side)_\($0)" }
    }
}
