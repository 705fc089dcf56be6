/// What the CNI plugin asks of the node agent over cni.sock: one request, one ``CNIReply``, then the end.
///
/// With `add` and `check` (and with `delete`, if it can be opened) the packet carries one descriptor: the
/// pod's network namespace.
public struct CNIRequest: HandoverMessage {
    /// The CNI verb.
    public enum Verb: UInt32, Hashable, Sendable, CaseIterable {
        case add = 1
        case delete = 2
        case check = 3
        case status = 4
        case gc = 5
    }

    /// One element of `cni.dev/valid-attachments`, the list GC keeps.
    public struct Attachment: Hashable, Sendable {
        public var containerID: String
        public var interfaceName: String

        public init(containerID: String, interfaceName: String) {
            self.containerID = containerID
            self.interfaceName = interfaceName
        }
    }

    public static let maximumLength = (1 << 20) + (64 << 10)
    /// Most addresses a prevResult may name.
    public static let maximumAddresses = 64
    /// Most attachments a GC request may name.
    public static let maximumAttachments = 16_384

    public var verb: Verb
    public var networkName: String
    public var containerID: String
    public var interfaceName: String
    /// CNI_NETNS as the runtime gave it; for messages and for DEL, the descriptor is what counts.
    public var netnsPath: String
    public var podName: String
    public var podNamespace: String
    public var podUID: String
    /// The addresses of prevResult, as CIDR text (`10.0.0.5/24`).
    public var addresses: [String]
    public var validAttachments: [Attachment]

    public init(
        verb: Verb, networkName: String = "", containerID: String = "", interfaceName: String = "",
        netnsPath: String = "", podName: String = "", podNamespace: String = "", podUID: String = "",
        addresses: [String] = [], validAttachments: [Attachment] = []
    ) {
        self.verb = verb
        self.networkName = networkName
        self.containerID = containerID
        self.interfaceName = interfaceName
        self.netnsPath = netnsPath
        self.podName = podName
        self.podNamespace = podNamespace
        self.podUID = podUID
        self.addresses = addresses
        self.validAttachments = validAttachments
    }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        var verb: Verb?
        self.init(verb: .add)
        while let field = try reader.nextField() {
            switch field {
            case 1:
                verb = Verb(rawValue: try reader.number32())
                if verb == nil { throw reader.error(.outOfRange, "an unknown verb") }
            case 2: networkName = try reader.string(limit: HandoverLimits.path)
            case 3: containerID = try reader.string(limit: HandoverLimits.path)
            case 4: interfaceName = try reader.string(limit: HandoverLimits.name)
            case 5: netnsPath = try reader.string(limit: HandoverLimits.path)
            case 6: podName = try reader.string(limit: HandoverLimits.name)
            case 7: podNamespace = try reader.string(limit: HandoverLimits.name)
            case 8: podUID = try reader.string(limit: HandoverLimits.name)
            case 9:
                try reader.bound(addresses.count, Self.maximumAddresses)
                addresses.append(try reader.string(limit: HandoverLimits.name))
            case 10:
                try reader.bound(validAttachments.count, Self.maximumAttachments)
                var inner = try reader.message()
                validAttachments.append(try Attachment(from: &inner))
            default: break
            }
        }
        guard let verb else { throw HandoverError(.missing, "\(Self.name): no verb") }
        self.verb = verb
    }

    public func write(to writer: inout ProtobufWriter) {
        writer.number(1, UInt64(verb.rawValue))
        writer.string(2, networkName)
        writer.string(3, containerID)
        writer.string(4, interfaceName)
        writer.string(5, netnsPath)
        writer.string(6, podName)
        writer.string(7, podNamespace)
        writer.string(8, podUID)
        for address in addresses { writer.element(9, address) }
        for attachment in validAttachments {
            writer.message(10) {
                $0.string(1, attachment.containerID)
                $0.string(2, attachment.interfaceName)
            }
        }
    }
}

extension CNIRequest.Attachment {
    fileprivate init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init(containerID: "", interfaceName: "")
        while let field = try reader.nextField() {
            switch field {
            case 1: containerID = try reader.string(limit: HandoverLimits.path)
            case 2: interfaceName = try reader.string(limit: HandoverLimits.name)
            default: break
            }
        }
    }
}

/// The agent's answer to a ``CNIRequest``.
public struct CNIReply: HandoverMessage {
    public static let maximumLength = 64 << 10

    /// 0: done. Everything else is the CNI error code that the plugin prints.
    ///
    /// Always on the wire, zero too: an empty packet looks like the end of the connection, and neither that nor a
    /// message of other fields may be taken for success.
    public var code: UInt32
    public var message: String
    public var details: String

    public init(code: UInt32 = 0, message: String = "", details: String = "") {
        self.code = code
        self.message = message
        self.details = details
    }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init()
        var code: UInt32?
        while let field = try reader.nextField() {
            switch field {
            case 1: code = try reader.number32()
            case 2: message = try reader.string(limit: HandoverLimits.path)
            case 3: details = try reader.string(limit: 8 * HandoverLimits.path)
            default: break
            }
        }
        guard let code else { throw HandoverError(.missing, "\(Self.name): no code") }
        self.code = code
    }

    public func write(to writer: inout ProtobufWriter) {
        writer.present(1, UInt64(code))
        writer.string(2, message)
        writer.string(3, details)
    }
}
