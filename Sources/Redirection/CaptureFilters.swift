import Glibc
import Netlink

/// A capture program in its place.
struct CaptureFilter: Hashable, Sendable {
    /// By which it is known as ours.
    static let handle: UInt32 = 0xa905
    /// The index of lo, which is the first interface of every network namespace.
    static let loopback: UInt32 = 1

    var interface: UInt32
    var program: CaptureProgram
    var classID: UInt32
    var direction: ClassifierFilter.Direction

    /// - Parameter direction: For ``CaptureProgram/line``, which stands in both.
    init(
        interface: UInt32, program: CaptureProgram, classID: UInt32,
        direction: ClassifierFilter.Direction? = nil
    ) {
        self.interface = interface
        self.program = program
        self.classID = classID
        self.direction = direction ?? program.direction
    }

    /// First among the filters, those that ask before and behind.
    private static func priority(_ program: CaptureProgram) -> UInt16 {
        switch program {
        case .probe: 1
        case .egress, .ingress, .loopback, .forged: 2
        case .line: 3
        }
    }

    func filter(tag: [UInt8]) -> ClassifierFilter {
        ClassifierFilter(
            interface: interface, direction: direction, priority: Self.priority(program),
            // There is one a port.
            handle: program == .probe ? Self.handle << 16 | classID : Self.handle,
            name: program.rawValue, classID: classID, tag: tag)
    }

    static func isOurs(_ filter: ClassifierFilter) -> Bool {
        guard let program = CaptureProgram(rawValue: filter.name), filter.priority == priority(program) else {
            return false
        }
        return program == .probe ? filter.handle >> 16 == handle : filter.handle == handle
    }
}

/// The places of filters on a namespace's interfaces; everything is of the calling thread's namespace.
struct CaptureFilters: ~Copyable {
    var routes: RouteSocket
    /// Interfaces whose place was just made: nothing is in it that would have to be read first.
    private var empty: Set<UInt32> = []

    init(routes: consuming RouteSocket) { self.routes = routes }

    /// A place for filters on each of the interfaces.
    mutating func prepare(_ links: [Link]) throws(NetlinkError) {
        for link in links {
            do throws(NetlinkError) {
                try routes.addClsact(link.index)
                empty.insert(link.index)
            } catch {
                guard error.code == EEXIST else { throw error }
                // Somebody's is there: of the kind that is wanted, or the older one in the same place.
                let other = try routes.disciplines().first {
                    $0.interface == link.index && $0.isAttachmentPoint && $0.kind != "clsact"
                }
                guard let other else { continue }
                throw NetlinkError(
                    operation: "add clsact to interface \(link.name)", code: EBUSY,
                    detail: "the queueing discipline \(other.kind) of other software is in its place")
            }
        }
    }

    /// Ours on an interface.
    mutating func ours(
        _ interface: UInt32, _ direction: ClassifierFilter.Direction
    ) throws(NetlinkError) -> [ClassifierFilter] {
        try routes.filters(interface, direction).classifiers.filter(CaptureFilter.isOurs)
    }

    /// What is in a filter's place.
    mutating func present(_ filter: CaptureFilter) throws(NetlinkError) -> ClassifierFilter? {
        let place = filter.filter(tag: [])
        return try ours(filter.interface, filter.direction).first {
            $0.priority == place.priority && $0.handle == place.handle
        }
    }

    mutating func put(_ filters: [CaptureFilter], _ programs: some CaptureProgramSet) throws(NetlinkError) {
        for filter in filters {
            let wanted = filter.filter(tag: programs.tag(filter.program))
            if !empty.contains(filter.interface), try present(filter) == wanted { continue }
            try routes.put(wanted, program: programs.descriptor(filter.program))
        }
    }

    /// Puts filters where nothing is, in one step with the look.
    mutating func claim(_ filters: [CaptureFilter], _ programs: some CaptureProgramSet) throws(NetlinkError) {
        for filter in filters {
            let (wanted, program) = (filter.filter(tag: []), programs.descriptor(filter.program))
            do throws(NetlinkError) {
                try routes.put(wanted, program: program, existing: .refuse)
            } catch {
                guard error.code == EEXIST else { throw error }
            }
        }
    }

    /// Takes away what captures and is not among the wanted. What looks for forged marks is ``ForgedMarks``'s business.
    /// - Returns: Whether there was something.
    mutating func takeAway(
        _ interface: UInt32, _ direction: ClassifierFilter.Direction, except wanted: [CaptureFilter] = []
    ) throws(NetlinkError) -> Bool {
        // What is in a new place has been put there from here.
        if empty.contains(interface) { return false }
        let places = wanted.map { $0.filter(tag: []) }
        let surplus = try ours(interface, direction).filter { filter in
            filter.name != CaptureProgram.forged.rawValue
                && !places.contains { $0.priority == filter.priority && $0.handle == filter.handle }
        }
        // What stands behind goes first: alone it drops.
        for filter in surplus.sorted(by: { $0.priority > $1.priority }) { try routes.delete(filter) }
        return !surplus.isEmpty
    }

    /// What differs in an interface's direction from what is wanted there.
    mutating func drift(
        _ link: Link, _ direction: ClassifierFilter.Direction, _ wanted: [CaptureFilter],
        _ programs: some CaptureProgramSet
    ) throws(NetlinkError) -> [Drift] {
        var left = try ours(link.index, direction)
        var found: [Drift] = []
        for filter in wanted {
            var expected = filter.filter(tag: programs.tag(filter.program))
            let name = filter.program.rawValue
            let index = left.firstIndex { $0.priority == expected.priority && $0.handle == expected.handle }
            guard let present = index.map({ left.remove(at: $0) }) else {
                found.append(.programMissing(interface: link.name, program: name))
                continue
            }
            // lo's class is memory, which nothing else knows.
            if filter.program == .loopback { expected.classID = present.classID | CaptureSetting.isKept }
            if present != expected { found.append(.programDiffers(interface: link.name, program: name)) }
        }
        return found + left.map { .programUnexpected(interface: link.name, program: $0.name) }
    }

    /// Takes the place for filters away where nobody else's are in it.
    mutating func clear(_ interface: UInt32) throws(NetlinkError) {
        let hasPlace = try routes.disciplines().contains {
            $0.interface == interface && $0.isAttachmentPoint && $0.kind == "clsact"
        }
        guard hasPlace else { return }
        for direction in [ClassifierFilter.Direction.egress, .ingress] {
            guard try routes.filters(interface, direction).count == 0 else { return }
        }
        try routes.deleteClsact(interface)
    }
}
