/// What one side of a tunnel tells the other about its workload, in the `baggage` header (W3C Baggage).
///
/// It is the peer's word, good for telemetry and for nothing else: identity comes from the certificate alone.
public struct Baggage: Hashable, Sendable {
    public var clusterID = ""
    public var namespace = ""
    public var kind: Workload.Kind?
    public var workloadName = ""
    public var canonicalName = ""
    public var canonicalRevision = ""
    public var region = ""
    public var zone = ""

    /// Bounds on what is read from a peer: longer headers, values and further members are ignored.
    public static let maximumLength = 8192
    public static let maximumMembers = 64
    public static let maximumValueLength = 253

    public init() {}

    public init(_ workload: Workload) {
        clusterID = workload.clusterID
        namespace = workload.namespace
        kind = workload.kind
        workloadName = workload.workloadName
        canonicalName = workload.canonicalName
        canonicalRevision = workload.canonicalRevision
        region = workload.locality.region
        zone = workload.locality.zone
    }

    public var isEmpty: Bool { self == Baggage() }

    /// The header's value: known members in fixed order, empty ones left out, and so is a value with a character that
    /// would need encoding, which no name of Kubernetes has.
    public var headerValue: String {
        let members = [
            ("k8s.cluster.name", clusterID), ("k8s.namespace.name", namespace),
            ("k8s.\((kind ?? .deployment).rawValue).name", workloadName), ("service.name", canonicalName),
            ("service.version", canonicalRevision), ("cloud.region", region), ("cloud.availability_zone", zone),
        ]
        return members.filter { !$0.1.isEmpty && Self.isPlain($0.1.utf8[...]) }
            .map { "\($0.0)=\($0.1)" }.joined(separator: ",")
    }

    /// Reads the values of one or several `baggage` headers. Never fails: what is not understood is left out; of
    /// members that come twice the last counts.
    public init(headerValues: some Sequence<String>) {
        self.init()
        var bytes = 0
        var members = 0
        for value in headerValues {
            bytes += value.utf8.count
            guard bytes <= Self.maximumLength else { return }
            for member in value.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: true) {
                members += 1
                guard members <= Self.maximumMembers else { return }
                read(member)
            }
        }
    }

    public init(headerValue: String) { self.init(headerValues: CollectionOfOne(headerValue)) }

    private mutating func read(_ member: Substring.UTF8View) {
        // Properties of a member follow a semicolon; none is known here.
        let pair = member.prefix { $0 != UInt8(ascii: ";") }
        guard let equals = pair.firstIndex(of: UInt8(ascii: "=")) else { return }
        let key = String(Substring(Self.trim(pair[..<equals])))
        let bytes = Self.trim(pair[pair.index(after: equals)...])
        guard !bytes.isEmpty, bytes.count <= Self.maximumValueLength, Self.isPlain(bytes) else { return }
        let value = String(Substring(bytes))
        switch key {
        case "k8s.cluster.name": clusterID = value
        case "k8s.namespace.name": namespace = value
        case "service.name": canonicalName = value
        case "service.version": canonicalRevision = value
        case "cloud.region": region = value
        case "cloud.availability_zone": zone = value
        default:
            guard let kind = Workload.Kind.allCases.first(where: { key == "k8s.\($0.rawValue).name" }) else { return }
            self.kind = kind
            workloadName = value
        }
    }

    private static func trim(_ bytes: Substring.UTF8View) -> Substring.UTF8View {
        var bytes = bytes
        while let first = bytes.first, first == 0x20 || first == 0x09 { bytes = bytes.dropFirst() }
        while let last = bytes.last, last == 0x20 || last == 0x09 { bytes = bytes.dropLast() }
        return bytes
    }

    /// The octets W3C Baggage allows in a value: visible ASCII without `"`, `,`, `;` and `\`.
    private static func isPlain(_ bytes: Substring.UTF8View) -> Bool {
        bytes.allSatisfy { byte in
            (0x21...0x7e).contains(byte) && ![0x22, 0x2c, 0x3b, 0x5c].contains(byte)
        }
    }
}
