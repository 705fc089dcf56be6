/// The name servers and search domains of a pod, as its resolv.conf has them or will.
public struct PodResolver: Hashable, Sendable {
    public static let mostServers = 8
    public static let mostSearchDomains = 32

    /// Addresses as text, in the order in which they are asked.
    public var servers: [String]
    public var searchDomains: [String]
    /// Seconds that one server gets.
    public var timeout: UInt32
    /// How often the list is gone through.
    public var attempts: UInt32

    public init(servers: [String] = [], searchDomains: [String] = [], timeout: UInt32 = 5, attempts: UInt32 = 2) {
        self.servers = servers
        self.searchDomains = searchDomains
        self.timeout = timeout
        self.attempts = attempts
    }

    init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init(timeout: 0, attempts: 0)
        while let field = try reader.nextField() {
            switch field {
            case 1:
                try reader.bound(servers.count, Self.mostServers)
                servers.append(try reader.string(limit: HandoverLimits.name))
            case 2:
                try reader.bound(searchDomains.count, Self.mostSearchDomains)
                searchDomains.append(try reader.string(limit: 255))
            case 3: timeout = try reader.number32()
            case 4: attempts = try reader.number32()
            default: break
            }
        }
    }

    func write(to writer: inout ProtobufWriter) {
        for server in servers { writer.element(1, server) }
        for domain in searchDomains { writer.element(2, domain) }
        writer.number(3, UInt64(timeout))
        writer.number(4, UInt64(attempts))
    }
}
