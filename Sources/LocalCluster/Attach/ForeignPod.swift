import Addressing
import CNI
import LinuxNetwork
import Netlink

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
        let interfaces = try NetworkNamespace(path: path).run { () throws in
            var routes = try RouteSocket()
            let addresses = try routes.addresses()
            return try routes.links().map { link in
                Interface(
                    name: link.name, isUp: link.isUp, hardwareAddress: link.hardwareAddress,
                    addresses: addresses.filter { $0.interface == link.index })
            }
        }
        return try Self.result(interfaces, path: path)
    }

    /// What the kernel says about one interface.
    struct Interface {
        var name: String
        var isUp: Bool
        var hardwareAddress: [UInt8]
        var addresses: [InterfaceAddress]

        var globalAddresses: [InterfaceAddress] {
            addresses.filter { !$0.address.isLoopback && !$0.address.isLinkLocal }
        }

        var hardwareText: String {
            hardwareAddress.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
        }
    }

    static func result(_ interfaces: [Interface], path: String) throws -> (text: String, addresses: [IPAddress]) {
        guard let found = interfaces.first(where: { $0.isUp && !$0.globalAddresses.isEmpty }) else {
            throw LocalClusterError(.attachment, "no interface in \(path) is up and has an address")
        }
        let addresses = found.globalAddresses
        func object(_ members: (String, JSONValue)...) -> JSONValue {
            .object(JSONObject(members.map { JSONObject.Member($0.0, $0.1) }))
        }
        let result = object(
            ("cniVersion", .string("1.0.0")), ("dns", object()),
            (
                "interfaces",
                .array([
                    object(
                        ("mac", .string(found.hardwareText)), ("name", .string(found.name)),
                        ("sandbox", .string(path)))
                ])
            ),
            (
                "ips",
                .array(
                    addresses.map {
                        object(
                            ("address", .string("\($0.address)/\($0.prefixLength)")),
                            ("interface", .number(JSONNumber(0))))
                    })
            ))
        return (String(decoding: result.bytes, as: UTF8.self), addresses.map(\.address))
    }
}
