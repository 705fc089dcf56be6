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

    public func prepare(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try refuseUnsupported(plan)
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot set up capture") { () throws(NetlinkError) in try claimPlaces(plan) }
        }
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
                var places = CaptureFilters(routes: try RouteSocket())
                return try PolicyRouting.drift(plan, &places.routes) + programDrift(plan, phase, &places)
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
                var places = CaptureFilters(routes: try RouteSocket())
                return try !places.ours(CaptureFilter.loopback, .ingress).isEmpty
            }
        }
    }

    private func refuseUnsupported(_ plan: RedirectionPlan) throws(RedirectionError) {
        guard plan.creators.isEmpty || plan.requiresSeal else {
            throw RedirectionError(
                .plan, "capture by eBPF cannot tell sockets by who made them, but by their seal",
                hint: "ask for the seal instead of naming creators, or capture by nftables")
        }
        if plan.sparesOpenConnections, let problem = programs.sparingProblem { throw problem }
    }

    // MARK: In the namespace

    /// The filters of a direction of an interface, in the order they stand in.
    private static func filters(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, _ link: Link, _ direction: ClassifierFilter.Direction
    ) -> [CaptureFilter] {
        let flags = CaptureFlags(plan, phase, interface: link.name)
        func line(_ extra: CaptureFlags) -> [CaptureFilter] {
            guard plan.dropsUncaptured else { return [] }
            let classID = flags.union(extra).rawValue
            return [CaptureFilter(interface: link.index, program: .line, classID: classID, direction: direction)]
        }
        switch (link.index == CaptureFilter.loopback, direction) {
        case (true, .ingress):
            return [CaptureFilter(interface: link.index, program: .loopback, classID: flags.rawValue)]
        case (true, .egress): return []
        case (false, .egress):
            return [CaptureFilter(interface: link.index, program: .egress, classID: flags.rawValue)] + line([])
        case (false, .ingress):
            // What comes from a guest is outbound, and no probe.
            let hasProbes = plan.capturesInbound && !plan.exemptsEveryProbePort && !flags.contains(.isVirtual)
            let probes = (hasProbes ? plan.probePorts : []).map {
                CaptureFilter(interface: link.index, program: .probe, classID: UInt32($0))
            }
            return probes + [CaptureFilter(interface: link.index, program: .ingress, classID: flags.rawValue)]
                + line(.isIngress)
        }
    }

    /// The first classifier of each new place waits for every processor to have let go of what it sees (a grace period of RCU);
    /// those that capture take these ones' places, which waits for nobody. As in leaving, nothing new is captured by them.
    /// Whatever is in a place stays in it.
    private func claimPlaces(_ plan: RedirectionPlan) throws(NetlinkError) {
        var places = CaptureFilters(routes: try RouteSocket())
        guard try places.ours(CaptureFilter.loopback, .ingress).isEmpty else { return }
        let links = try places.routes.links()
        try places.prepare(links)
        let memory = try memory(&places)
        let loopback = CaptureFilter(interface: CaptureFilter.loopback, program: .loopback, classID: memory)
        let others = links.filter { $0.index != CaptureFilter.loopback }.flatMap { link in
            [ClassifierFilter.Direction.ingress, .egress].flatMap { Self.filters(plan, .leaving, link, $0) }
        }
        try places.claim([loopback] + others, programs)
    }

    private func makeHold(_ plan: RedirectionPlan, _ phase: RedirectionPhase) throws(RedirectionError) {
        let message = "cannot set up capture"
        var places = try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            CaptureFilters(routes: try RouteSocket())
        }
        let links = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try places.routes.links() }
        // Order: what the settings were is kept before they are changed; what is led to lo must be taken up there before
        // anything is led there; and what comes in must not open connections that egress does not know.
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            try places.prepare(links)
            try places.put(
                [CaptureFilter(interface: CaptureFilter.loopback, program: .loopback, classID: memory(&places))],
                programs)
        }
        for setting in CaptureSetting.allCases {
            if let opened = KernelSetting.Opened(setting.setting), opened.value != "1" { try opened.write("1") }
        }
        let others = links.filter { $0.index != CaptureFilter.loopback }
        let inward = others.flatMap { Self.filters(plan, phase, $0, .ingress) }
        let outward = others.flatMap { Self.filters(plan, phase, $0, .egress) }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            try PolicyRouting.establish(plan, &places.routes)
            try places.put(inward, programs)
        }
        if phase == .capturing, plan.sparesOpenConnections {
            let fresh = try RedirectionError.wrapping(message) { () throws(NetlinkError) in
                var fresh: [CaptureFilter] = []
                for filter in outward where filter.program == .egress {
                    if try !isCapturing(filter, &places) { fresh.append(filter) }
                }
                return fresh
            }
            if !fresh.isEmpty {
                let sparing = fresh.map { filter in
                    var filter = filter
                    filter.classID |= CaptureFlags.sparesUnmarked.rawValue
                    return filter
                }
                try RedirectionError.wrapping(message) { () throws(NetlinkError) in try places.put(sparing, programs) }
                try OpenConnections.spare(with: programs)
            }
        }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            try places.put(outward, programs)
            for link in others {
                _ = try places.takeAway(link.index, .egress, except: outward)
                _ = try places.takeAway(link.index, .ingress, except: inward)
            }
        }
    }

    /// What the settings were before: as lo's filter keeps it, or as they are now.
    private func memory(_ places: inout CaptureFilters) throws(NetlinkError) -> UInt32 {
        let present = try places.ours(CaptureFilter.loopback, .ingress).first
        if let present, present.classID & CaptureSetting.isKept != 0 { return present.classID }
        // With our routing in place the filter was taken from under us, and the values are our own.
        return try PolicyRouting.isPresent(&places.routes) ? CaptureSetting.isKept : CaptureSetting.memory()
    }

    private func isCapturing(_ filter: CaptureFilter, _ places: inout CaptureFilters) throws(NetlinkError) -> Bool {
        guard let found = try places.present(filter), found.name == filter.program.rawValue else { return false }
        let flags = CaptureFlags(rawValue: found.classID)
        return flags.contains(.capturesNew) && !flags.contains(.sparesUnmarked)
    }

    private func programDrift(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, _ places: inout CaptureFilters
    ) throws(NetlinkError) -> [Drift] {
        var found: [Drift] = []
        for link in try places.routes.links() {
            for direction in [ClassifierFilter.Direction.ingress, .egress] {
                let wanted = Self.filters(plan, phase, link, direction)
                found += try places.drift(link, direction, wanted, programs)
            }
        }
        // Before capture there is nothing that asks for the settings.
        guard try !places.ours(CaptureFilter.loopback, .ingress).isEmpty else { return found }
        for setting in CaptureSetting.allCases {
            guard let value = setting.setting.read(), value != "1" else { continue }
            found.append(.settingDiffers(name: setting.setting.name, value: value, wanted: "1"))
        }
        return found
    }

    private static func removeHere() throws(RedirectionError) {
        let message = "cannot take capture away"
        var places = try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            CaptureFilters(routes: try RouteSocket())
        }
        let links = try RedirectionError.wrapping(message) { () throws(NetlinkError) in try places.routes.links() }
        var memory: UInt32?
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            for link in links where link.index != CaptureFilter.loopback {
                for direction in [ClassifierFilter.Direction.egress, .ingress] {
                    guard try places.takeAway(link.index, direction) else { continue }
                    // Should lo's filter be gone, the values from before are as the kernel has them of itself.
                    memory = CaptureSetting.isKept
                }
            }
            memory = try places.ours(CaptureFilter.loopback, .ingress).first?.classID ?? memory
            guard memory != nil else { return }
            try PolicyRouting.remove(&places.routes)
        }
        guard let memory else { return }
        // The filter that knows the old values goes after they are back.
        for setting in CaptureSetting.allCases {
            let before = setting.before(memory)
            guard let value = setting.setting.read(), value != before else { continue }
            try setting.setting.write(before)
        }
        try RedirectionError.wrapping(message) { () throws(NetlinkError) in
            _ = try places.takeAway(CaptureFilter.loopback, .ingress)
            for link in links { try places.clear(link.index) }
        }
    }
}
