import Glibc

/// A queueing discipline of an interface; only what is needed to know whose it is.
public struct QueueingDiscipline: Hashable, Sendable {
    /// The interface's index.
    public let interface: UInt32
    public let kind: String
    public let parent: UInt32

    /// Where classifiers hang without a queue: `clsact`, or the older `ingress`, which takes the same place.
    public var isAttachmentPoint: Bool { parent == TrafficControl.clsactParent }
}

/// An eBPF classifier on an interface, in direct-action mode.
public struct ClassifierFilter: Hashable, Sendable {
    public enum Direction: UInt32, Hashable, Sendable {
        /// The kernel's numbers (`TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`) in the place of clsact.
        case ingress = 0xffff_fff2
        case egress = 0xffff_fff3
    }

    public var interface: UInt32
    public var direction: Direction
    public var priority: UInt16
    public var handle: UInt32
    public var name: String
    /// The class: its low 16 bits are `tc_classid` in the program.
    public var classID: UInt32
    /// The first eight bytes of the program's hash, by which the kernel names it.
    public var tag: [UInt8]
    /// Whether the program's result is the verdict.
    public var isDirect: Bool

    public init(
        interface: UInt32, direction: Direction, priority: UInt16, handle: UInt32, name: String, classID: UInt32,
        tag: [UInt8], isDirect: Bool = true
    ) {
        self.interface = interface
        self.direction = direction
        self.priority = priority
        self.handle = handle
        self.name = name
        self.classID = classID
        self.tag = tag
        self.isDirect = isDirect
    }
}

enum TrafficControl {
    static let clsactParent: UInt32 = 0xffff_fff1
    static let clsactHandle: UInt32 = 0xffff_0000
    static let newDiscipline: UInt16 = 36
    static let deleteDiscipline: UInt16 = 37
    static let getDiscipline: UInt16 = 38
    static let newFilter: UInt16 = 44
    static let deleteFilter: UInt16 = 45
    static let getFilter: UInt16 = 46
    /// ETH_P_ALL in network order, as the low half of a filter's information.
    static let everyProtocol: UInt32 = UInt32(UInt16(3).bigEndian)
    static let kind = 1
    static let options = 2
    static let classID = 3
    static let descriptor = 6
    static let name = 7
    static let flags = 8
    static let tag = 10
    static let isDirect: UInt32 = 1

    /// struct tcmsg.
    static func header(_ interface: UInt32, handle: UInt32, parent: UInt32, information: UInt32) -> [UInt8] {
        [0, 0, 0, 0] + interface.nativeBytes + handle.nativeBytes + parent.nativeBytes + information.nativeBytes
    }
}

extension RouteSocket {
    /// The disciplines of all interfaces.
    public mutating func disciplines() throws(NetlinkError) -> [QueueingDiscipline] {
        var found: [QueueingDiscipline] = []
        let body = TrafficControl.header(0, handle: 0, parent: 0, information: 0)
        try socket.dump(
            NetlinkSocket.Message(type: TrafficControl.getDiscipline, body: body), "list queueing disciplines",
            reset: { found = [] },
            each: { _, body in
                guard body.count >= 20, let interface = UInt32(native: body.dropFirst(4)),
                    let parent = UInt32(native: body.dropFirst(12)),
                    let kind = Attributes(body.dropFirst(20)).string(TrafficControl.kind)
                else { return }
                found.append(QueueingDiscipline(interface: interface, kind: kind, parent: parent))
            })
        return found
    }

    /// Gives an interface a place for classifiers; one that has it already is an error (EEXIST).
    public mutating func addClsact(_ interface: UInt32) throws(NetlinkError) {
        try changeClsact(
            TrafficControl.newDiscipline, flags: NetlinkSocket.Flag.create | NetlinkSocket.Flag.exclusive, interface,
            "add clsact to interface \(interface)")
    }

    /// Takes the place away, with every filter in it.
    public mutating func deleteClsact(_ interface: UInt32) throws(NetlinkError) {
        try changeClsact(
            TrafficControl.deleteDiscipline, flags: 0, interface, "delete clsact of interface \(interface)")
    }

    private mutating func changeClsact(
        _ type: UInt16, flags: UInt16, _ interface: UInt32, _ operation: String
    ) throws(NetlinkError) {
        var writer = AttributeWriter()
        writer.header(
            TrafficControl.header(
                interface, handle: TrafficControl.clsactHandle, parent: TrafficControl.clsactParent, information: 0))
        writer.put(TrafficControl.kind, string: "clsact")
        try socket.request(NetlinkSocket.Message(type: type, flags: flags, body: writer.bytes), operation)
    }

    /// The number of filters of any kind in one direction of an interface, and the eBPF ones among them.
    public mutating func filters(
        _ interface: UInt32, _ direction: ClassifierFilter.Direction
    ) throws(NetlinkError) -> (count: Int, classifiers: [ClassifierFilter]) {
        var found: [ClassifierFilter] = []
        var count = 0
        let body = TrafficControl.header(interface, handle: 0, parent: direction.rawValue, information: 0)
        do throws(NetlinkError) {
            try socket.dump(
                NetlinkSocket.Message(type: TrafficControl.getFilter, body: body), "list filters",
                reset: { (found, count) = ([], 0) },
                each: { _, body in
                    // Handle 0 is the kind at that priority as a whole.
                    guard body.count >= 20, let handle = UInt32(native: body.dropFirst(8)), handle != 0 else { return }
                    count += 1
                    if let filter = Self.decodeFilter(body, handle, direction) { found.append(filter) }
                })
        } catch {
            // Without a place for them there are none.
            guard [EINVAL, ENOENT].contains(error.code) else { throw error }
            return (0, [])
        }
        return (count, found)
    }

    private static func decodeFilter(
        _ body: ArraySlice<UInt8>, _ handle: UInt32, _ direction: ClassifierFilter.Direction
    ) -> ClassifierFilter? {
        let attributes = Attributes(body.dropFirst(20))
        guard attributes.string(TrafficControl.kind) == "bpf", let interface = UInt32(native: body.dropFirst(4)),
            let information = UInt32(native: body.dropFirst(16)),
            let options = attributes.nested(TrafficControl.options)
        else { return nil }
        return ClassifierFilter(
            interface: interface, direction: direction, priority: UInt16(information >> 16), handle: handle,
            name: options.string(TrafficControl.name) ?? "", classID: options.u32(TrafficControl.classID) ?? 0,
            tag: options[TrafficControl.tag].map { Array($0) } ?? [],
            isDirect: (options.u32(TrafficControl.flags) ?? 0) & TrafficControl.isDirect != 0)
    }

    /// Puts a loaded program in the filter's place; one that is there already is exchanged without a gap, or refused (EEXIST).
    public mutating func put(
        _ filter: ClassifierFilter, program descriptor: CInt, existing: Existing = .replace
    ) throws(NetlinkError) {
        var writer = AttributeWriter()
        writer.header(Self.header(filter))
        writer.put(TrafficControl.kind, string: "bpf")
        writer.nest(TrafficControl.options) { options in
            options.put(TrafficControl.classID, u32: filter.classID)
            options.put(TrafficControl.descriptor, u32: UInt32(bitPattern: descriptor))
            options.put(TrafficControl.name, string: filter.name)
            options.put(TrafficControl.flags, u32: filter.isDirect ? TrafficControl.isDirect : 0)
        }
        try socket.request(
            NetlinkSocket.Message(
                type: TrafficControl.newFilter,
                flags: NetlinkSocket.Flag.create | (existing == .refuse ? NetlinkSocket.Flag.exclusive : 0),
                body: writer.bytes),
            "put program \(filter.name) on interface \(filter.interface)")
    }

    /// Deletes a filter; one that is not there is an error (ENOENT).
    public mutating func delete(_ filter: ClassifierFilter) throws(NetlinkError) {
        var writer = AttributeWriter()
        writer.header(Self.header(filter))
        writer.put(TrafficControl.kind, string: "bpf")
        try socket.request(
            NetlinkSocket.Message(type: TrafficControl.deleteFilter, body: writer.bytes),
            "delete program \(filter.name) of interface \(filter.interface)")
    }

    private static func header(_ filter: ClassifierFilter) -> [UInt8] {
        TrafficControl.header(
            filter.interface, handle: filter.handle, parent: filter.direction.rawValue,
            information: UInt32(filter.priority) << 16 | TrafficControl.everyProtocol)
    }
}
