/// The host names that a client may mean by a name, in the order in which they are looked up.
///
/// A resolver that was asked for `reviews` asks for `reviews.ns.svc.cluster.local`, `reviews.svc.cluster.local`, ...
/// and for `www.example.com` it first asks for `www.example.com.ns.svc.cluster.local`: the mesh knows at the first of
/// them what is meant, and spares the client and its name server the rest.
struct Candidates {
    struct Candidate: Hashable {
        let host: String
        /// The name without the search domain that it ended with, when that is how the host was found.
        let stripped: String?
    }

    /// At most so many; a name that ends with many search domains at once is no name that a resolver makes.
    static let limit = 64

    private(set) var all: [Candidate] = []
    private var seen: Set<String> = []

    init(_ name: String, for client: DNSClient) {
        add(name, stripped: nil)
        for host in Self.expansions(of: name, client) { add(host, stripped: nil) }
        for domain in client.searchDomains {
            guard let short = Self.remove(domain, from: name) else { continue }
            add(short, stripped: short)
            for host in Self.expansions(of: short, client) { add(host, stripped: short) }
        }
    }

    private mutating func add(_ host: String, stripped: String?) {
        guard all.count < Self.limit, seen.insert(host).inserted else { return }
        all.append(Candidate(host: host, stripped: stripped))
    }

    /// The full names of services that a short one may stand for, by the number of its labels.
    static func expansions(of name: String, _ client: DNSClient) -> [String] {
        let labels = name.split(separator: ".", maxSplits: 4, omittingEmptySubsequences: false)
        let domain = client.clusterDomain
        switch labels.count {
        case 1: return ["\(name).\(client.namespace).svc.\(domain)"]
        case 2: return ["\(name).svc.\(domain)", "\(name).\(client.namespace).svc.\(domain)"]
        case 3: return (labels[2] == "svc" ? ["\(name).\(domain)"] : []) + ["\(name).svc.\(domain)"]
        case 4: return labels[3] == "svc" ? ["\(name).\(domain)"] : []
        default: return []
        }
    }

    /// `name` without `.domain` at its end; `nil` when it does not end so, or nothing is left.
    static func remove(_ domain: String, from name: String) -> String? {
        let (text, tail) = (name.utf8, domain.utf8)
        guard text.count > tail.count + 1 else { return nil }
        let dot = text.index(text.endIndex, offsetBy: -(tail.count + 1))
        guard text[dot] == UInt8(ascii: "."), text[text.index(after: dot)...].elementsEqual(tail) else { return nil }
        return String(name[..<dot])
    }

    /// `*.b.c` and `*.c` for `a.b.c`; never `*` alone.
    static func wildcards(of host: String) -> [String] {
        var result: [String] = []
        var rest = host[...]
        while let dot = rest.firstIndex(of: ".") {
            rest = rest[rest.index(after: dot)...]
            if !rest.isEmpty { result.append("*.\(rest)") }
        }
        return result
    }
}
