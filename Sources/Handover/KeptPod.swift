/// A pod on its way from one keeper to the next. The packet carries its descriptors, in the order of ``descriptors``.
public struct KeptPod: Hashable, Sendable {
    public var pod: KeeperPod
    /// What the packet's descriptors are: the namespace, the listeners if there are any, both ends of each stock.
    public var descriptors: [HandoverDescriptor]
    /// How many sockets the stock should hold at present (``StockGauge/target``).
    public var stockTarget: UInt32
    /// The same of the UDP sockets; 0 where there are none.
    public var datagramTarget: UInt32

    public init(pod: KeeperPod, descriptors: [HandoverDescriptor], stockTarget: UInt32, datagramTarget: UInt32 = 0) {
        self.pod = pod
        self.descriptors = descriptors
        self.stockTarget = stockTarget
        self.datagramTarget = datagramTarget
    }

    init(from reader: inout ProtobufReader) throws(HandoverError) {
        var pod: KeeperPod?
        var kinds: [UInt64] = []
        var targets: (UInt32, UInt32) = (0, 0)
        while let field = try reader.nextField() {
            switch field {
            case 1:
                var inner = try reader.message()
                pod = try KeeperPod(from: &inner)
            case 2: try reader.numbers(into: &kinds, limit: HandoverLimits.descriptors)
            case 3: targets.0 = try reader.number32()
            case 4: targets.1 = try reader.number32()
            default: break
            }
        }
        guard let pod else { throw HandoverError(.missing, "\(reader.name): a handed pod that is not described") }
        let descriptors = try HandoverDescriptor.kinds(kinds, in: reader.name)
        self.init(pod: pod, descriptors: descriptors, stockTarget: targets.0, datagramTarget: targets.1)
    }

    func write(to writer: inout ProtobufWriter) {
        writer.message(1) { pod.write(to: &$0) }
        writer.packed(2, descriptors.map { UInt64($0.rawValue) })
        writer.number(3, UInt64(stockTarget))
        writer.number(4, UInt64(datagramTarget))
    }
}
