/// ztunnel's first packet on ztunnel.sock (`istio.workload.zds.ZdsHello`), with the hand-over offered or not.
public struct ZDSHello: HandoverMessage {
    public static let maximumLength = ZDSRequest.plainLength
    /// The version of ZDS in use.
    public static let v1: UInt32 = 1
    /// The version of the hand-over extension in use.
    public static let handoverVersion: UInt32 = 2
    /// From this version of the hand-over on, ztunnel takes ``ZDSRequest/update(uid:_:)``.
    public static let updatesSince: UInt32 = 2

    public var version: UInt32
    /// Field 1000, ours: not 0 = "hand me sockets rather than a network namespace"; 0 as Istio's agent knows it.
    public var handover: UInt32
    /// Field 1001, ours: this ztunnel is to take over from the active one.
    public var successor: Bool
    /// Field 1002, ours: it serves so many pods already. A keeper that knows none of them, since it has just been
    /// started, does not end its snapshot before the agent has named them.
    public var serves: UInt32

    public init(
        version: UInt32 = ZDSHello.v1, handover: UInt32 = 0, successor: Bool = false, serves: UInt32 = 0
    ) {
        self.version = version
        self.handover = handover
        self.successor = successor
        self.serves = serves
    }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init(version: 0)
        while let field = try reader.nextField() {
            switch field {
            case 1: version = try reader.number32()
            case 1000: handover = try reader.number32()
            case 1001: successor = try reader.flag()
            case 1002: serves = try reader.number32()
            default: break
            }
        }
    }

    public func write(to writer: inout ProtobufWriter) {
        writer.number(1, UInt64(version))
        writer.number(1000, UInt64(handover))
        writer.flag(1001, successor)
        writer.number(1002, UInt64(serves))
    }
}

/// What a descriptor in an AddWorkload packet is. The list grows: a receiver closes descriptors it does not know.
public struct HandoverDescriptor: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt32

    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The listener on 15001, captured outbound connections.
    public static let listenerOutbound = HandoverDescriptor(rawValue: 1)
    /// The listener on 15006, captured plaintext inbound connections.
    public static let listenerInboundPlaintext = HandoverDescriptor(rawValue: 2)
    /// The listener on 15008.
    public static let listenerHBONE = HandoverDescriptor(rawValue: 3)
    /// A UDP socket on 15053 of 127.0.0.1 or ::1: one of each where the pod has IPv6.
    public static let listenerDNSUDP = HandoverDescriptor(rawValue: 4)
    /// A TCP listener on 15053, likewise.
    public static let listenerDNSTCP = HandoverDescriptor(rawValue: 5)
    /// The end of a SEQPACKET pair from which prepared outgoing sockets come (``StockMessage``).
    public static let stock = HandoverDescriptor(rawValue: 6)
    /// The network namespace, as plain ZDS sends it.
    public static let namespace = HandoverDescriptor(rawValue: 7)
    /// As ``stock``, but of UDP sockets, for questions to name servers.
    public static let stockDatagram = HandoverDescriptor(rawValue: 8)
    /// The keeper's own end of ``stock``; goes to the next keeper alone.
    public static let stockSource = HandoverDescriptor(rawValue: 9)
    /// The keeper's own end of ``stockDatagram``, likewise.
    public static let stockDatagramSource = HandoverDescriptor(rawValue: 10)

    /// What a message's numbers name, known or not.
    static func kinds(_ numbers: [UInt64], in message: String) throws(HandoverError) -> [HandoverDescriptor] {
        var kinds: [HandoverDescriptor] = []
        for number in numbers {
            guard let kind = UInt32(exactly: number) else {
                throw HandoverError(.outOfRange, "\(message): \(number) is no kind of descriptor")
            }
            kinds.append(HandoverDescriptor(rawValue: kind))
        }
        return kinds
    }
}

/// `istio.workload.zds.WorkloadInfo`.
public struct ZDSWorkloadInfo: Hashable, Sendable {
    public var name: String
    public var namespace: String
    public var serviceAccount: String

    public init(name: String, namespace: String, serviceAccount: String) {
        self.name = name
        self.namespace = namespace
        self.serviceAccount = serviceAccount
    }
}

/// What the node agent or keeper tells ztunnel (`istio.workload.zds.WorkloadRequest`). Each is answered by one
/// ``ZDSResponse`` before the next is sent.
public enum ZDSRequest: HandoverMessage {
    /// Field 1. With plain ZDS `descriptors` is empty and the packet carries the namespace; with the hand-over it
    /// says, in order, what the packet's descriptors are.
    case add(uid: String, info: ZDSWorkloadInfo?, descriptors: [HandoverDescriptor])
    /// Field 5: the pod is known, its namespace is lost.
    case keep(uid: String)
    /// Field 2.
    case delete(uid: String)
    /// Field 3: all pods have been named; what was not is gone.
    case snapshotSent
    /// Field 1001, ours: what is to be known of a pod that was added before. Only for a ztunnel that offers the
    /// hand-over in version ``ZDSHello/updatesSince``.
    case update(uid: String, PodSettings)

    /// Field 1000, ours, with the hand-over only and after the pod's addition: whom its DNS is forwarded to.
    case configure(uid: String, resolver: PodResolver)

    /// Istio's buffers are of this size: additions keep to it.
    public static let plainLength = 1024
    public static let maximumLength = 4096
    public static let name = "WorkloadRequest"

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        var request: ZDSRequest?
        while let field = try reader.nextField() {
            switch field {
            case 1:
                var inner = try reader.message()
                request = try Self.addition(from: &inner)
            case 2:
                var inner = try reader.message()
                request = .delete(uid: try Self.uid(2, from: &inner))
            case 3:
                _ = try reader.message()
                request = .snapshotSent
            case 5:
                var inner = try reader.message()
                request = .keep(uid: try Self.uid(1, from: &inner))
            case 1000:
                var inner = try reader.message()
                request = try Self.configuration(from: &inner)
            case 1001:
                var inner = try reader.message()
                request = try Self.update(from: &inner)
            default: break
            }
        }
        guard let request else { throw HandoverError(.missing, "\(Self.name): no payload that is known here") }
        self = request
    }

    private static func addition(from reader: inout ProtobufReader) throws(HandoverError) -> ZDSRequest {
        var uid = ""
        var info: ZDSWorkloadInfo?
        var descriptors: [UInt64] = []
        while let field = try reader.nextField() {
            switch field {
            case 1: uid = try reader.string(limit: plainLength)
            case 2:
                var inner = try reader.message()
                info = try ZDSWorkloadInfo(from: &inner)
            case 1000: try reader.numbers(into: &descriptors, limit: HandoverLimits.descriptors)
            default: break
            }
        }
        return .add(uid: uid, info: info, descriptors: try HandoverDescriptor.kinds(descriptors, in: name))
    }

    private static func configuration(from reader: inout ProtobufReader) throws(HandoverError) -> ZDSRequest {
        var uid = ""
        var resolver = PodResolver()
        while let field = try reader.nextField() {
            switch field {
            case 1: uid = try reader.string(limit: plainLength)
            case 2:
                var inner = try reader.message()
                resolver = try PodResolver(from: &inner)
            default: break
            }
        }
        return .configure(uid: uid, resolver: resolver)
    }

    private static func update(from reader: inout ProtobufReader) throws(HandoverError) -> ZDSRequest {
        var uid = ""
        var settings = PodSettings.none
        while let field = try reader.nextField() {
            switch field {
            case 1: uid = try reader.string(limit: maximumLength)
            case 2:
                var inner = try reader.message()
                settings = try PodSettings(from: &inner)
            default: break
            }
        }
        return .update(uid: uid, settings)
    }

    private static func uid(_ number: UInt32, from reader: inout ProtobufReader) throws(HandoverError) -> String {
        var uid = ""
        while let field = try reader.nextField() {
            if field == number { uid = try reader.string(limit: plainLength) }
        }
        return uid
    }

    public func write(to writer: inout ProtobufWriter) {
        switch self {
        case .add(let uid, let info, let descriptors):
            writer.message(1) {
                $0.string(1, uid)
                if let info { $0.message(2) { info.write(to: &$0) } }
                $0.packed(1000, descriptors.map { UInt64($0.rawValue) })
            }
        case .keep(let uid): writer.message(5) { $0.string(1, uid) }
        case .delete(let uid): writer.message(2) { $0.string(2, uid) }
        case .snapshotSent: writer.message(3) { _ in }
        case .configure(let uid, let resolver):
            writer.message(1000) {
                $0.string(1, uid)
                $0.message(2) { resolver.write(to: &$0) }
            }
        case .update(let uid, let settings):
            writer.message(1001) {
                $0.string(1, uid)
                $0.message(2) { settings.write(to: &$0) }
            }
        }
    }
}

extension ZDSWorkloadInfo {
    fileprivate init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init(name: "", namespace: "", serviceAccount: "")
        while let field = try reader.nextField() {
            switch field {
            case 1: name = try reader.string(limit: ZDSRequest.plainLength)
            case 2: namespace = try reader.string(limit: ZDSRequest.plainLength)
            case 3: serviceAccount = try reader.string(limit: ZDSRequest.plainLength)
            default: break
            }
        }
    }

    fileprivate func write(to writer: inout ProtobufWriter) {
        writer.string(1, name)
        writer.string(2, namespace)
        writer.string(3, serviceAccount)
    }
}

/// ztunnel's answer to a ``ZDSRequest`` (`istio.workload.zds.WorkloadResponse`).
public struct ZDSResponse: HandoverMessage {
    public static let maximumLength = ZDSRequest.plainLength
    public static let name = "WorkloadResponse"

    /// Empty: yes. Else why not. ztunnel keeps it under ``maximumLength``; see ``init(error:)``.
    public let error: String

    /// An acknowledgement, or a refusal in `error`'s words, shortened to ``HandoverLimits/text``.
    public init(error: String = "") { self.error = HandoverLimits.shortened(error) }

    public init(from reader: inout ProtobufReader) throws(HandoverError) {
        var error: String?
        while let field = try reader.nextField() {
            guard field == 1 else { continue }
            var inner = try reader.message()
            error = ""
            while let field = try inner.nextField() {
                if field == 1 { error = try inner.string(limit: Self.maximumLength) }
            }
        }
        guard let error else { throw HandoverError(.missing, "\(Self.name): no ack") }
        self.init(error: error)
    }

    public func write(to writer: inout ProtobufWriter) {
        writer.message(1) { $0.string(1, error) }
    }
}
