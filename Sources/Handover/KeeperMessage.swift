/// How a pod in the keeper's care is doing.
public struct PodStatus: Hashable, Sendable {
    public enum State: UInt32, Hashable, Sendable, CaseIterable {
        /// The sockets exist; no ztunnel has said yes to them. Connections wait in the listeners' queues.
        case waiting = 1
        /// The active ztunnel has said yes.
        case served = 2
        /// The active ztunnel has said no; ``PodStatus/error`` says why. It is asked again every few seconds.
        case failed = 3
    }

    public var uid: String
    public var netnsInode: UInt64
    public var name: String
    public var namespace: String
    public var serviceAccount: String
    public var state: State
    /// ztunnel's words when it failed, else empty.
    public var error: String

    public init(
        uid: String, netnsInode: UInt64, name: String, namespace: String, serviceAccount: String, state: State,
        error: String = ""
    ) {
        self.uid = uid
        self.netnsInode = netnsInode
        self.name = name
        self.namespace = namespace
        self.serviceAccount = serviceAccount
        self.state = state
        self.error = error
    }

    fileprivate init(from reader: inout ProtobufReader) throws(HandoverError) {
        var state: State?
        self.init(uid: "", netnsInode: 0, name: "", namespace: "", serviceAccount: "", state: .waiting)
        while let field = try reader.nextField() {
            switch field {
            case 1: uid = try reader.string(limit: HandoverLimits.name)
            case 2: netnsInode = try reader.number()
            case 3: name = try reader.string(limit: HandoverLimits.name)
            case 4: namespace = try reader.string(limit: HandoverLimits.name)
            case 5: serviceAccount = try reader.string(limit: HandoverLimits.name)
            case 6:
                state = State(rawValue: try reader.number32())
                if state == nil { throw reader.error(.outOfRange, "an unknown state") }
            case 7: error = try reader.string(limit: HandoverLimits.text)
            default: break
            }
        }
        guard !uid.isEmpty, let state else {
            throw HandoverError(.missing, "\(reader.name): a pod status without uid or state")
        }
        self.state = state
    }

    fileprivate func write(to writer: inout ProtobufWriter) {
        writer.string(1, uid)
        writer.number(2, netnsInode)
        writer.string(3, name)
        writer.string(4, namespace)
        writer.string(5, serviceAccount)
        writer.number(6, UInt64(state.rawValue))
        writer.string(7, error)
    }
}

/// The keeper's answer to one ``KeeperRequest``.
public struct KeeperReply: Hashable, Sendable {
    /// Most pods one reply names; a longer list comes in several.
    public static let maximumPods = 32

    public var id: UInt64
    /// `nil`: done.
    public var error: String?
    /// `addPod`: the pod. `list`: some or all of them.
    public var pods: [PodStatus]
    /// More replies with this id follow.
    public var more: Bool
    /// `addPod`, to an agent that keeps copies: which of the pod's listeners the packet's descriptors are.
    public var listeners: [HandoverDescriptor]

    public init(
        id: UInt64, error: String? = nil, pods: [PodStatus] = [], more: Bool = false,
        listeners: [HandoverDescriptor] = []
    ) {
        self.id = id
        self.error = error
        self.pods = pods
        self.more = more
        self.listeners = listeners
    }

    fileprivate init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init(id: 0)
        while let field = try reader.nextField() {
            switch field {
            case 1: id = try reader.number()
            case 2: error = try reader.string(limit: HandoverLimits.text)
            case 3:
                try reader.bound(pods.count, Self.maximumPods)
                var inner = try reader.message()
                pods.append(try PodStatus(from: &inner))
            case 4: more = try reader.flag()
            case 5:
                var kinds: [UInt64] = []
                try reader.numbers(into: &kinds, limit: HandoverLimits.descriptors)
                listeners += try HandoverDescriptor.kinds(kinds, in: reader.name)
                try reader.bound(listeners.count, HandoverLimits.descriptors)
            default: break
            }
        }
    }

    fileprivate func write(to writer: inout ProtobufWriter) {
        writer.number(1, id)
        if let error { writer.element(2, error) }
        for pod in pods { writer.message(3) { pod.write(to: &$0) } }
        writer.flag(4, more)
        writer.packed(5, listeners.map { UInt64($0.rawValue) })
    }
}

/// What the keeper sends to the agent, or to the keeper that takes over from it.
public struct KeeperMessage: HandoverMessage {
    public enum Content: Hashable, Sendable {
        case reply(KeeperReply)
        /// Unasked: a pod's state has changed. Several changes of one pod may arrive as the last of them.
        case podStatus(PodStatus)
        /// To a successor: a pod, with its descriptors.
        case handed(KeptPod)
        /// To a successor: that was all, so many pods in number. Carries the listeners of keeper.sock and ztunnel.sock.
        case handedAll(pods: UInt32)
    }

    public static let maximumLength = 64 << 10

    public var content: Content

    public init(_ content: Content) { self.content = content }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        var content: Content?
        while let field = try reader.nextField() {
            switch field {
            case 1:
                var inner = try reader.message()
                content = .reply(try KeeperReply(from: &inner))
            case 2:
                var inner = try reader.message()
                content = .podStatus(try PodStatus(from: &inner))
            case 3:
                var inner = try reader.message()
                content = .handed(try KeptPod(from: &inner))
            case 4:
                var inner = try reader.message()
                content = .handedAll(pods: try Self.count(from: &inner))
            default: break
            }
        }
        guard let content else { throw HandoverError(.missing, "\(Self.name): neither a reply nor an event") }
        self.init(content)
    }

    private static func count(from reader: inout ProtobufReader) throws(HandoverError) -> UInt32 {
        var count: UInt32 = 0
        while let field = try reader.nextField() {
            if field == 1 { count = try reader.number32() }
        }
        return count
    }

    public func write(to writer: inout ProtobufWriter) {
        switch content {
        case .reply(let reply): writer.message(1) { reply.write(to: &$0) }
        case .podStatus(let status): writer.message(2) { status.write(to: &$0) }
        case .handed(let pod): writer.message(3) { pod.write(to: &$0) }
        case .handedAll(let pods): writer.message(4) { $0.number(1, UInt64(pods)) }
        }
    }
}
