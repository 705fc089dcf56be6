import Addressing

/// The result of an ADD, in any version spoken here: the parts with a meaning for a mesh, and the whole document.
public struct AttachmentResult: Sendable {
    /// An interface that a plugin made.
    public struct Interface: Sendable, Hashable {
        public var name: String
        /// Empty when not reported.
        public var hardwareAddress: String
        /// Path of the network namespace it is in; empty on the host.
        public var sandbox: String
    }

    /// An address of the container.
    public struct Address: Sendable, Hashable {
        /// As written: `10.1.2.3/24`.
        public var text: String
        public var address: IPAddress
        public var prefixLength: Int
        public var gateway: IPAddress?
        /// Index into ``AttachmentResult/interfaces``, where reported.
        public var interface: Int?
    }

    public var interfaces: [Interface]
    public var addresses: [Address]
    /// The result as it was read, unknown fields and their order included.
    public let document: JSONObject

    /// Reads a result of the versions 0.3.1 to 1.1.0, whose `ips` differ only in a `version` that the address says too.
    /// - Parameter path: what the value is called in messages.
    /// - Throws: ``CNIError`` 6 for a wrong type, 7 for a wrong value.
    public init(_ json: JSONValue, path: String = "prevResult") throws(CNIError) {
        guard case .object(let object) = json else {
            throw .wrongType(path, expected: "an object", found: json)
        }
        document = object
        interfaces = []
        for (interface, path) in try object.objects("interfaces", at: path) ?? [] {
            interfaces.append(
                Interface(
                    name: try interface.string("name", at: path) ?? "",
                    hardwareAddress: try interface.string("mac", at: path) ?? "",
                    sandbox: try interface.string("sandbox", at: path) ?? ""))
        }
        addresses = []
        for (address, path) in try object.objects("ips", at: path) ?? [] {
            addresses.append(try Self.address(address, path: path))
        }
    }

    /// The result of a plugin that stands alone: nothing was attached.
    public static func empty(version: SpecVersion) -> JSONValue {
        .object(
            JSONObject([
                .init("cniVersion", .string(version.rawValue)),
                .init("dns", .object(JSONObject())),
            ]))
    }

    private static func address(_ object: JSONObject, path: String) throws(CNIError) -> Address {
        let text = try object.string("address", at: path) ?? ""
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 2, let host = IPAddress(String(Substring(parts[0]))),
            let block = CIDR(text)
        else {
            throw CNIError(
                .invalidConfiguration, "field \(path).address is \(FieldPath.quoted(text))",
                details: "it must be an address with prefix length, such as 10.1.2.3/24")
        }
        var gateway: IPAddress?
        if let text = try object.string("gateway", at: path), !text.isEmpty {
            guard let address = IPAddress(text) else {
                throw CNIError(
                    .invalidConfiguration, "field \(path).gateway is \(FieldPath.quoted(text))",
                    details: "it must be an address")
            }
            gateway = address
        }
        return Address(
            text: text, address: host, prefixLength: block.length, gateway: gateway,
            interface: try object.integer("interface", at: path))
    }
}
