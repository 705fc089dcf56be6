import Addressing
import Foundation

/// A namespace that somebody else made and connected, to be treated as a pod.
public struct ForeignPod: Sendable, Hashable {
    /// Path of the network namespace.
    public var path: String
    public var namespace: String
    public var name: String

    public init(path: String, namespace: String, name: String) {
        self.path = path
        self.namespace = namespace
        self.name = name
    }

    /// Reads `NETNS=NAMESPACE/POD`, where NETNS is a path or a name below /run/netns.
    public init(argument: String) throws {
        let sides = argument.split(separator: "=", omittingEmptySubsequences: false)
        let pod = (sides.last ?? "").split(separator: "/", omittingEmptySubsequences: false)
        guard sides.count == 2, pod.count == 2, !sides[0].isEmpty, pod.allSatisfy(Self.isName) else {
            throw LocalClusterError(
                .manifest, "\(argument) is not NETNS=NAMESPACE/POD", hint: "for example --netns web=shop/client")
        }
        self.init(
            path: sides[0].contains("/") ? String(sides[0]) : RunLayout.namespacePath(String(sides[0])),
            namespace: String(pod[0]), name: String(pod[1]))
    }

    private static func isName(_ text: Substring) -> Bool {
        !text.isEmpty && text.utf8.count <= 63 && text.first != "-" && text.last != "-"
            && text.utf8.allSatisfy { (48...57).contains($0) || (97...122).contains($0) || $0 == 45 }
    }

    // MARK: What is in it

    /// The result that the plugin which connected it would have given: its first interface that is up, and the global
    /// addresses of that.
    func result() throws -> (text: String, addresses: [IPAddress]) {
        try Self.result(Command.run("ip", "-json", "address", "show", in: path), path: path)
    }

    /// - Parameter interfaces: the output of `ip -json address show`.
    static func result(_ interfaces: String, path: String) throws -> (text: String, addresses: [IPAddress]) {
        let links = try JSONDecoder().decode([Link].self, from: Data(interfaces.utf8))
        let link = links.first { link in
            link.flags.contains("UP") && !link.flags.contains("LOOPBACK") && !link.globalAddresses.isEmpty
        }
        guard let link else {
            throw LocalClusterError(.attachment, "no interface in \(path) is up and has an address")
        }
        let result = Result(
            interfaces: [.init(name: link.ifname, mac: link.address ?? "", sandbox: path)],
            ips: link.globalAddresses.map { .init(address: "\($0.local)/\($0.prefixlen)", interface: 0) })
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let text = String(decoding: try encoder.encode(result), as: UTF8.self)
        return (text, link.globalAddresses.compactMap { IPAddress($0.local) })
    }

    private struct Link: Decodable {
        struct Address: Decodable {
            let local: String
            let prefixlen: Int
            let scope: String
        }
        let ifname: String
        let address: String?
        let flags: [String]
        let addresses: [Address]

        var globalAddresses: [Address] { addresses.filter { $0.scope == "global" } }

        private enum CodingKeys: String, CodingKey {
            case ifname, address, flags
            case addresses = "addr_info"
        }
    }

    private struct Result: Encodable {
        struct Interface: Encodable {
            let name: String
            let mac: String
            let sandbox: String
        }
        struct Address: Encodable {
            let address: String
            let interface: Int
        }
        var cniVersion = "1.0.0"
        let interfaces: [Interface]
        let ips: [Address]
        var dns: [String: String] = [:]
    }
}
