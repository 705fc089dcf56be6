/// A pod whose sockets the keeper is asked to make.
public struct KeeperPod: Hashable, Sendable {
    public var uid: String
    public var name: String
    public var namespace: String
    public var serviceAccount: String
    /// Whether IPv6 is captured too: the sockets are dual-stack where the kernel has IPv6.
    public var dualStack: Bool
    /// Whether the pod's DNS is captured.
    public var dns: Bool
    /// Whom the pod's DNS is forwarded to, where that is known.
    public var resolver: PodResolver?
    /// Inode of the network namespace; it must be that of the descriptor in the packet.
    public var netnsInode: UInt64
    /// What ztunnel is told beside; another `addPod` with other settings tells it anew.
    public var settings: PodSettings

    public init(
        uid: String, name: String, namespace: String, serviceAccount: String, dualStack: Bool = true,
        dns: Bool = false, resolver: PodResolver? = nil, netnsInode: UInt64, settings: PodSettings = .none
    ) {
        self.uid = uid
        self.name = name
        self.namespace = namespace
        self.serviceAccount = serviceAccount
        self.dualStack = dualStack
        self.dns = dns
        self.resolver = resolver
        self.netnsInode = netnsInode
        self.settings = settings
    }
}

/// What the agent asks of the keeper over keeper.sock. Each gets a ``KeeperMessage/Content/reply(_:)`` with its id.
///
/// `addPod` carries the pod's network namespace, and behind it the listeners that it names; the others carry none.
public struct KeeperRequest: HandoverMessage {
    public enum Command: Hashable, Sendable {
        /// The agent's first message. The newest connection that says it is the agent's; an older one is closed.
        /// With `keeps` the agent keeps copies of the pods' listeners, for the keeper that comes after one that was
        /// killed: replies to `addPod` carry them, and ``named`` will follow.
        case hello(version: UInt32, keeps: Bool = false)
        /// Make the pod's sockets, or find them made (same uid, same namespace). Another namespace under a known
        /// uid replaces the old sockets. The reply says that the sockets exist, not that they are served.
        /// `listeners` are those of a keeper before, in the order of the packet's descriptors: taken instead of new ones
        /// if the pod is not known and they are what they should be.
        case addPod(KeeperPod, listeners: [HandoverDescriptor] = [])
        /// Give the pod's sockets up; `drain` waits for ztunnel to say that it has let go (5 s at most).
        /// A uid that is not known is no error.
        case removePod(uid: String, drain: Bool)
        /// All pods, in one or more replies; all but the last have ``KeeperReply/more``.
        case list
        /// After `hello` with `keeps`: every pod that is to be there has been added. What a ztunnel still serves beside
        /// those is over.
        case named
        /// Another keeper's first message instead of `hello`: it is to take over. After a reply without an error come
        /// ``KeeperMessage/Content/handed(_:)`` for each pod and ``KeeperMessage/Content/handedAll(pods:)``, each
        /// answered by ``taken(error:)`` before the next is sent.
        case takeover(version: UInt32)
        /// An empty error: the descriptors are what they should be. That of `handedAll` makes the sender the keeper.
        case taken(error: String)
    }

    public static let maximumLength = 8 << 10
    /// The version of this protocol that ``Command/hello(version:)`` carries.
    public static let version: UInt32 = 1
    /// The version of the hand-over from keeper to keeper that ``Command/takeover(version:)`` carries.
    public static let takeoverVersion: UInt32 = 1

    /// Chosen by the agent, repeated in the reply.
    public var id: UInt64
    public var command: Command

    public init(id: UInt64, command: Command) {
        self.id = id
        self.command = command
    }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        var id: UInt64 = 0
        var command: Command?
        var listeners: [UInt64] = []
        while let field = try reader.nextField() {
            switch field {
            case 1: id = try reader.number()
            case 2:
                var inner = try reader.message()
                command = try Self.hello(from: &inner)
            case 3:
                var inner = try reader.message()
                command = .addPod(try KeeperPod(from: &inner))
            case 4:
                var inner = try reader.message()
                command = try Self.removal(from: &inner)
            case 5:
                _ = try reader.message()
                command = .list
            case 6:
                var inner = try reader.message()
                command = .takeover(version: try Self.version(from: &inner))
            case 7:
                var inner = try reader.message()
                command = .taken(error: try Self.error(from: &inner))
            case 8:
                _ = try reader.message()
                command = .named
            case 9: try reader.numbers(into: &listeners, limit: HandoverLimits.descriptors)
            default: break
            }
        }
        guard var command else { throw HandoverError(.missing, "\(Self.name): no command that is known here") }
        if case .addPod(let pod, _) = command {
            command = .addPod(pod, listeners: try HandoverDescriptor.kinds(listeners, in: Self.name))
        }
        self.init(id: id, command: command)
    }

    private static func hello(from reader: inout ProtobufReader) throws(HandoverError) -> Command {
        var version: UInt32 = 0
        var keeps = false
        while let field = try reader.nextField() {
            switch field {
            case 1: version = try reader.number32()
            case 2: keeps = try reader.flag()
            default: break
            }
        }
        return .hello(version: version, keeps: keeps)
    }

    private static func version(from reader: inout ProtobufReader) throws(HandoverError) -> UInt32 {
        var version: UInt32 = 0
        while let field = try reader.nextField() {
            if field == 1 { version = try reader.number32() }
        }
        return version
    }

    private static func error(from reader: inout ProtobufReader) throws(HandoverError) -> String {
        var error = ""
        while let field = try reader.nextField() {
            if field == 1 { error = try reader.string(limit: HandoverLimits.text) }
        }
        return error
    }

    private static func removal(from reader: inout ProtobufReader) throws(HandoverError) -> Command {
        var uid = ""
        var drain = false
        while let field = try reader.nextField() {
            switch field {
            case 1: uid = try reader.string(limit: HandoverLimits.name)
            case 2: drain = try reader.flag()
            default: break
            }
        }
        guard !uid.isEmpty else { throw HandoverError(.missing, "\(name): removePod without a uid") }
        return .removePod(uid: uid, drain: drain)
    }

    public func write(to writer: inout ProtobufWriter) {
        writer.number(1, id)
        switch command {
        case .hello(let version, let keeps):
            writer.message(2) {
                $0.number(1, UInt64(version))
                $0.flag(2, keeps)
            }
        case .addPod(let pod, let listeners):
            writer.message(3) { pod.write(to: &$0) }
            writer.packed(9, listeners.map { UInt64($0.rawValue) })
        case .removePod(let uid, let drain):
            writer.message(4) {
                $0.string(1, uid)
                $0.flag(2, drain)
            }
        case .list:
            writer.message(5) { _ in }
        case .takeover(let version):
            writer.message(6) { $0.number(1, UInt64(version)) }
        case .taken(let error):
            writer.message(7) { $0.string(1, error) }
        case .named:
            writer.message(8) { _ in }
        }
    }
}

extension KeeperPod {
    init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init(uid: "", name: "", namespace: "", serviceAccount: "", dualStack: false, netnsInode: 0)
        while let field = try reader.nextField() {
            switch field {
            case 1: uid = try reader.string(limit: HandoverLimits.name)
            case 2: name = try reader.string(limit: HandoverLimits.name)
            case 3: namespace = try reader.string(limit: HandoverLimits.name)
            case 4: serviceAccount = try reader.string(limit: HandoverLimits.name)
            case 5: dualStack = try reader.flag()
            case 6: dns = try reader.flag()
            case 7: netnsInode = try reader.number()
            case 8:
                var inner = try reader.message()
                resolver = try PodResolver(from: &inner)
            case 20:
                var inner = try reader.message()
                settings = try PodSettings(from: &inner)
            default: break
            }
        }
        guard !uid.isEmpty else { throw HandoverError(.missing, "\(reader.name): addPod without a uid") }
    }

    func write(to writer: inout ProtobufWriter) {
        writer.string(1, uid)
        writer.string(2, name)
        writer.string(3, namespace)
        writer.string(4, serviceAccount)
        writer.flag(5, dualStack)
        writer.flag(6, dns)
        writer.number(7, netnsInode)
        if let resolver { writer.message(8) { resolver.write(to: &$0) } }
        if settings != .none { writer.message(20) { settings.write(to: &$0) } }
    }
}
