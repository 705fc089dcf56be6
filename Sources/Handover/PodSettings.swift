/// What ztunnel is told of a pod beside its sockets, and what may change while the pod runs.
///
/// Goes from the agent to the keeper with the pod, and from there to ztunnel in ``ZDSRequest/update(uid:_:)``. A field
/// that is absent has the value that is the default here, so every message says everything.
public struct PodSettings: Hashable, Sendable {
    /// How many connections into the pod may be open at once; 0 for any number.
    public var connectionLimit: UInt32
    /// How many connections into the pod may begin in a second; 0 for any number.
    public var connectionRate: UInt32
    /// Somebody has asked for the pod's end: it serves what it has, and peers should look for others.
    public var isTerminating: Bool

    public init(connectionLimit: UInt32 = 0, connectionRate: UInt32 = 0, isTerminating: Bool = false) {
        self.connectionLimit = connectionLimit
        self.connectionRate = connectionRate
        self.isTerminating = isTerminating
    }

    /// Nothing to say: what a pod has that no update came for.
    public static let none = PodSettings()

    init(from reader: inout ProtobufReader) throws(HandoverError) {
        self.init()
        while let field = try reader.nextField() {
            switch field {
            case 1: connectionLimit = try reader.number32()
            case 2: connectionRate = try reader.number32()
            case 3: isTerminating = try reader.flag()
            default: break
            }
        }
    }

    func write(to writer: inout ProtobufWriter) {
        writer.number(1, UInt64(connectionLimit))
        writer.number(2, UInt64(connectionRate))
        writer.flag(3, isTerminating)
    }
}
