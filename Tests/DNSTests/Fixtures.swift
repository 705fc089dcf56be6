import Addressing
import Mesh

@testable import DNS

/// The same numbers on every run (SplitMix64).
struct FixedRandom: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64 = 1) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}

func name(_ text: String) -> DNSName { DNSName(text) ?? .root }

/// A query as a resolver writes it.
func queryBytes(
    _ text: String, _ type: RecordType = .a, id: UInt16 = 0x1234, flags: UInt16 = 0x0100, recordClass: UInt16 = 1,
    edns payload: UInt16? = nil, ednsVersion: UInt8 = 0, dnssec: Bool = false
) -> [UInt8] {
    var bytes: [UInt8] = [UInt8(id >> 8), UInt8(id & 255), UInt8(flags >> 8), UInt8(flags & 255)]
    bytes += [0, 1, 0, 0, 0, 0, 0, payload == nil ? 0 : 1]
    bytes += spelled(text) + [UInt8(type.rawValue >> 8), UInt8(type.rawValue & 255)]
    bytes += [UInt8(recordClass >> 8), UInt8(recordClass & 255)]
    if let payload {
        bytes += [0, 0, 41, UInt8(payload >> 8), UInt8(payload & 255), 0, ednsVersion, dnssec ? 0x80 : 0, 0, 0, 0]
    }
    return bytes
}

/// A name on the wire in the very letters of the text.
func spelled(_ text: String) -> [UInt8] {
    text.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
}

func parsed(_ bytes: [UInt8]) -> DNSQuery? {
    switch ReceivedQuery(bytes) {
    case .query(let query), .foreign(let query): query
    default: nil
    }
}

/// A reply's records in one line: `name TYPE data`, sections apart by `|`, prefixed with flags and code.
func line(_ bytes: [UInt8]) -> String {
    guard let message = try? DNSMessage(parsing: bytes) else { return "unreadable" }
    var text = "\(message.responseCode)"
    if message.header.isAuthoritative { text += " aa" }
    if message.header.isTruncated { text += " tc" }
    for section in [DNSMessage.Section.answer, .authority, .additional] {
        let records = message.records.filter { $0.section == section && $0.type != .opt }
        text += records.isEmpty ? "" : section == .answer ? ": " : section == .authority ? " | auth " : " | more "
        text += records.map { record in
            let owner = (try? message.name(of: record))?.hostname ?? "?"
            let data: String
            switch record.type {
            case .a, .aaaa: data = message.address(of: record)?.description ?? "?"
            case .cname, .ptr: data = (try? message.target(of: record))?.hostname ?? "?"
            case .srv:
                let service = try? message.service(of: record)
                data = "\(service?.port ?? 0) \(service?.target.hostname ?? "?")"
            default: data = ""
            }
            return "\(owner) \(record.type) \(data)"
        }.joined(separator: ", ")
    }
    return text
}

func ip(_ text: String) -> IPAddress { IPAddress(text) ?? .anyV4 }

func pod(
    _ name: String, _ addresses: [String], namespace: String = "ns1", services: [String: PortMap] = [:],
    status: Workload.Status = .healthy, network: String = ""
) -> Workload {
    Workload(
        uid: "Kubernetes//Pod/\(namespace)/\(name)", name: name, namespace: namespace, addresses: addresses.map(ip),
        network: network,
        services: Dictionary(
            uniqueKeysWithValues: services.map {
                (NamespacedHostname($0.key) ?? NamespacedHostname(namespace: "", hostname: $0.key), $0.value)
            }), status: status)
}

func service(
    _ hostname: String, _ addresses: [String] = [], namespace: String, ports: [Service.Port] = [],
    blocks: [NetworkCIDR] = [], families: Service.IPFamilies = .automatic, canonical: Bool = false,
    visibility: Service.Visibility = .everywhere, balancing: LoadBalancing? = nil
) -> Service {
    Service(
        name: String(hostname.prefix { $0 != "." }), namespace: namespace, hostname: hostname,
        addresses: addresses.compactMap { NetworkAddress($0) ?? IPAddress($0).map { NetworkAddress(address: $0) } },
        blocks: blocks, ports: ports, loadBalancing: balancing, ipFamilies: families, canonical: canonical,
        visibility: visibility)
}
