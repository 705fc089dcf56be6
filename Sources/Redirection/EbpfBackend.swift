import Addressing
import Glibc
import LinuxNetwork
import Netlink

/// Capture by eBPF: classifiers on the pod's interfaces, no netfilter, no translation, no table of connections.
///
/// What is attached lives in the namespace's interfaces, so no process has to live for it.
public struct EbpfBackend: RedirectionBackend {
    private let programs: CapturePrograms

    /// Loads the programs, which serve all pods; takes some tens of milliseconds.
    /// - Throws: where the kernel does not take them.
    public init() throws(RedirectionError) {
        programs = try CapturePrograms()
    }

    public func apply(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try refuseUnsupported(plan)
        try namespace.run { () throws(RedirectionError) in try makeHold(plan, .capturing) }
    }

    public func leave(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try namespace.run { () throws(RedirectionError) in try makeHold(plan, .leaving) }
    }

    public func remove(in namespace: borrowing NetworkNamespace) throws {
        try Self.removeAttached(in: namespace)
    }

    /// Takes everything away, for whoever has no need of the programs themselves.
    public static func removeAttached(in namespace: borrowing NetworkNamespace) throws {
        try namespace.run { () throws(RedirectionError) in try removeHere() }
    }

    public func verify(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, in namespace: borrowing NetworkNamespace
    ) throws -> [Drift] {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot read capture back") { () throws(NetlinkError) in
                var routes = try RouteSocket()
                return try PolicyRouting.drift(plan, &routes) + programDrift(plan, phase, &routes)
            }
        }
    }

    public func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot count captured connections") { () throws(NetlinkError) in
                var diagnostics = try SocketDiagnostics()
                return try CapturedConnections.count(&diagnostics)
            }
        }
    }

    /// Whether something of it is there.
    static func isAttached(in namespace: borrowing NetworkNamespace) throws -> Bool {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot read capture back") { () throws(NetlinkError) in
                var routes = try RouteSocket()
                return try routes.filters(CaptureFilter.loopback, .ingress).classifiers.contains(
                    where: CaptureFilter.isOurs)
            }
        }
    }

    private func refuseUnsupported(_ plan: RedirectionPlan) throws(RedirectionError) {
        guard plan.creators.isEmpty else {
            throw RedirectionError(
                .plan, "capture by eBPF takes the mark alone for ztunnel's: it cannot tell sockets by who made them",
                hint: "leave the creators out, or capture by nftables")
        }
        if plan.sparesOpenConnections, let problem = programs.sparingProblem { throw problem }
    }

    // MARK: In the namespace

    private func makeHold(_ plan: RedirectionPlan, _ phase: RedirectionPhase) throws(RedirectionError) {
        let message = "cannot set up capture"
        var routes = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try RouteSocket() }
        let links = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try routes.links() }
        // Order: what the settings were is kept before they are changed; what is led to lo must be taken up there before
        // anything is led there; and what comes in must not open connections that egress does not know.
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            try Self.prepare(links, &routes)
            try put(
                [CaptureFilter(interface: CaptureFilter.loopback, program: .loopback, classID: memory(&routes))],
                &routes)
        }
        for setting in CaptureSetting.allCases where setting.setting.read().map({ $0 != "1" }) ?? false {
            try setting.setting.write("1")
        }
        let others = links.filter { $0.index != CaptureFilter.loopback }
        func filters(_ program: CapturePrograms.Classifier) -> [CaptureFilter] {
            others.map {
                CaptureFilter(
                    interface: $0.index, program: program,
                    classID: CaptureFlags(plan, phase, interface: $0.name).rawValue)
            }
        }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            try PolicyRouting.establish(plan, &routes)
            try put(filters(.ingress), &routes)
        }
        let egress = filters(.egress)
        if phase == .capturing, plan.sparesOpenConnections {
            let fresh = try RedirectionError.wrapping(message) { () throws(NetlinkError) in
                var fresh: [CaptureFilter] = []
                for filter in egress where try !isCapturing(filter, &routes) { fresh.append(filter) }
                return fresh
            }
            if !fresh.isEmpty {
                let sparing = fresh.map { filter in
                    var filter = filter
                    filter.classID |= CaptureFlags.sparesUnmarked.rawValue
                    return filter
                }
                try RedirectionError.wrapping(message) { () throws(NetlinkError) in try put(sparing, &routes) }
                try OpenConnections.spare(with: programs)
            }
        }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in try put(egress, &routes) }
    }

    /// A place for filters on every interface.
    private static func prepare(_ links: [Link], _ routes: inout RouteSocket) throws(NetlinkError) {
        let disciplines = try routes.disciplines().filter(\.isAttachmentPoint)
        for link in links {
            if let present = disciplines.first(where: { $0.interface == link.index }) {
                guard present.kind != "clsact" else { continue }
                throw NetlinkError(
                    operation: "add clsact to interface \(link.name)", code: EBUSY,
                    detail: "the queueing discipline \(present.kind) of other software is in its place")
            }
            do throws(NetlinkError) {
                try routes.addClsact(link.index)
            } catch {
                guard error.code == EEXIST else { throw error }
            }
        }
    }

    /// What the settings were before: as lo's filter keeps it, or as they are now.
    private func memory(_ routes: inout RouteSocket) throws(NetlinkError) -> UInt32 {
        let present = try routes.filters(CaptureFilter.loopback, .ingress).classifiers.first(
            where: CaptureFilter.isOurs)
        if let present, present.classID & CaptureSetting.isKept != 0 { return present.classID }
        // With our routing in place the filter was taken from under us, and the values are our own.
        return try PolicyRouting.isPresent(&routes) ? CaptureSetting.isKept : CaptureSetting.memory()
    }

    private func present(
        _ filter: CaptureFilter, _ routes: inout RouteSocket
    ) throws(NetlinkError) -> ClassifierFilter? {
        try routes.filters(filter.interface, filter.direction).classifiers.first(where: CaptureFilter.isOurs)
    }

    private func isCapturing(_ filter: CaptureFilter, _ routes: inout RouteSocket) throws(NetlinkError) -> Bool {
        guard let found = try present(filter, &routes), found.name == filter.program.rawValue else { return false }
        let flags = CaptureFlags(rawValue: found.classID)
        return flags.contains(.capturesNew) && !flags.contains(.sparesUnmarked)
    }

    private func put(_ filters: [CaptureFilter], _ routes: inout RouteSocket) throws(NetlinkError) {
        for filter in filters {
            let wanted = filter.filter(tag: programs.tag(filter.program))
            guard try present(filter, &routes) != wanted else { continue }
            try routes.put(wanted, program: programs.descriptor(filter.program))
        }
    }

    private func programDrift(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, _ routes: inout RouteSocket
    ) throws(NetlinkError) -> [Drift] {
        var found: [Drift] = []
        for link in try routes.links() {
            let flags = CaptureFlags(plan, phase, interface: link.name).rawValue
            let isLoopback = link.index == CaptureFilter.loopback
            for program in isLoopback ? [CapturePrograms.Classifier.loopback] : [.ingress, .egress] {
                let filter = CaptureFilter(interface: link.index, program: program, classID: flags)
                guard let present = try present(filter, &routes) else {
                    found.append(.programMissing(interface: link.name, program: program.rawValue))
                    continue
                }
                var wanted = filter.filter(tag: programs.tag(program))
                // lo's class is memory, which nothing else knows.
                if isLoopback { wanted.classID = present.classID | CaptureSetting.isKept }
                if present != wanted {
                    found.append(.programDiffers(interface: link.name, program: program.rawValue))
                }
            }
        }
        // Before capture there is nothing that asks for the settings.
        let loopback = CaptureFilter(interface: CaptureFilter.loopback, program: .loopback, classID: 0)
        guard try present(loopback, &routes) != nil else { return found }
        for setting in CaptureSetting.allCases {
            guard let value = setting.setting.read(), value != "1" else { continue }
            found.append(.settingDiffers(name: setting.setting.name, value: value, wanted: "1"))
        }
        return found
    }

    private static func removeHere() throws(RedirectionError) {
        let message = "cannot take capture away"
        var routes = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try RouteSocket() }
        let links = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try routes.links() }
        var memory: UInt32?
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            for link in links where link.index != CaptureFilter.loopback {
                for direction in [ClassifierFilter.Direction.egress, .ingress] {
                    guard try Self.takeAway(link.index, direction, &routes) else { continue }
                    // Should lo's filter be gone, the values from before are as the kernel has them of itself.
                    memory = CaptureSetting.isKept
                }
            }
            memory =
                try routes.filters(CaptureFilter.loopback, .ingress).classifiers
                .first(where: CaptureFilter.isOurs)?.classID ?? memory
            guard memory != nil else { return }
            try PolicyRouting.remove(&routes)
        }
        guard let memory else { return }
        // The filter that knows the old values goes after they are back.
        for setting in CaptureSetting.allCases {
            let before = setting.before(memory)
            guard let value = setting.setting.read(), value != before else { continue }
            try setting.setting.write(before)
        }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            _ = try Self.takeAway(CaptureFilter.loopback, .ingress, &routes)
            for link in links { try Self.clear(link.index, &routes) }
        }
    }

    /// - Returns: Whether there was something to take away.
    private static func takeAway(
        _ interface: UInt32, _ direction: ClassifierFilter.Direction, _ routes: inout RouteSocket
    ) throws(NetlinkError) -> Bool {
        let ours = try routes.filters(interface, direction).classifiers.filter(CaptureFilter.isOurs)
        for filter in ours { try routes.delete(filter) }
        return !ours.isEmpty
    }

    /// Takes the place for filters away where nobody else's are in it.
    private static func clear(_ interface: UInt32, _ routes: inout RouteSocket) throws(NetlinkError) {
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
