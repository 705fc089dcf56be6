import Addressing

/// What a resolv.conf says, as far as a forwarder needs it (resolv.conf(5)).
public struct ResolverConfiguration: Hashable, Sendable {
    /// In the order in which they are asked.
    public var servers: [IPAddress]
    /// Without dots at the ends, lower case.
    public var searchDomains: [String]
    /// Seconds that one server gets.
    public var timeout: Int
    /// How often the whole list is gone through.
    public var attempts: Int

    public init(servers: [IPAddress] = [], searchDomains: [String] = [], timeout: Int = 5, attempts: Int = 2) {
        self.servers = servers
        self.searchDomains = searchDomains
        self.timeout = timeout
        self.attempts = attempts
    }

    /// glibc takes three; a few more do no harm.
    public static let mostServers = 8
    /// Kubernetes' limits for a pod.
    public static let mostSearchDomains = 32
    public static let mostSearchBytes = 2048
    /// The longest file that is read.
    public static let longestFile = 64 << 10

    /// Reads the file as the C library does: what it does not understand is passed over, of `search` and `domain` the
    /// last one counts, and numbers are kept in their bounds.
    public init(parsing text: some StringProtocol) {
        self.init()
        for line in text.split(whereSeparator: \.isNewline) {
            let content = line.prefix { $0 != "#" && $0 != ";" }
            let words = content.split { $0 == " " || $0 == "\t" }
            guard let keyword = words.first else { continue }
            switch keyword {
            case "nameserver":
                if words.count > 1, let server = Self.server(words[1]) { add(server) }
            case "domain": searchDomains = Self.domains(words.dropFirst().prefix(1))
            case "search": searchDomains = Self.domains(words.dropFirst())
            case "options":
                for option in words.dropFirst() { set(option) }
            default: continue
            }
        }
    }

    public mutating func add(_ server: IPAddress) {
        if servers.count < Self.mostServers, !servers.contains(server.canonical) { servers.append(server.canonical) }
    }

    private static func server(_ word: some StringProtocol) -> IPAddress? {
        // A link-local server has a zone; without it there is no way there, and with it only from one interface.
        IPAddress(word)
    }

    /// Those that are names, within Kubernetes' limits.
    public static func domains(_ words: some Sequence<some StringProtocol>) -> [String] {
        var result: [String] = []
        var bytes = 0
        for word in words {
            guard let name = DNSName(word), !name.isRoot, let domain = name.hostname, !result.contains(domain) else {
                continue
            }
            bytes += domain.utf8.count + 1
            guard result.count < mostSearchDomains, bytes <= mostSearchBytes else { break }
            result.append(domain)
        }
        return result
    }

    /// `timeout:n` and `attempts:n`; others are the client's own.
    public mutating func set(_ option: some StringProtocol) {
        let parts = option.split(separator: ":", maxSplits: 1)
        guard parts.count == 2, let number = Int(parts[1]) else { return }
        switch parts[0] {
        case "timeout": timeout = min(max(number, 1), 30)
        case "attempts": attempts = min(max(number, 1), 5)
        default: return
        }
    }
}
