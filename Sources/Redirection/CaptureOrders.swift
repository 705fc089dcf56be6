import Netlink

/// What a capture program is told by the class of its filter; the bits stand in `bpf/capture.bpf.c` as well.
struct CaptureFlags: OptionSet, Hashable, Sendable {
    let rawValue: UInt32

    static let capturesNew = CaptureFlags(rawValue: 0x1)
    /// For the moment of enrolment: open connections are not marked yet.
    static let sparesUnmarked = CaptureFlags(rawValue: 0x2)
    static let capturesInbound = CaptureFlags(rawValue: 0x4)
    static let isVirtual = CaptureFlags(rawValue: 0x8)
    static let capturesV4 = CaptureFlags(rawValue: 0x10)
    static let capturesV6 = CaptureFlags(rawValue: 0x20)
    static let capturesDNS = CaptureFlags(rawValue: 0x40)
    /// The address of probes is not captured at any port. Of single ports there is a filter each.
    static let exemptsProbes = CaptureFlags(rawValue: 0x80)
    static let requiresSeal = CaptureFlags(rawValue: 0x100)
    /// Where the second line stands.
    static let isIngress = CaptureFlags(rawValue: 0x200)

    init(rawValue: UInt32) { self.rawValue = rawValue }

    /// What a plan orders on an interface in a phase.
    init(_ plan: RedirectionPlan, _ phase: RedirectionPhase, interface: String) {
        var flags: CaptureFlags = []
        if phase == .capturing { flags.insert(.capturesNew) }
        if plan.capturesInbound { flags.insert(.capturesInbound) }
        if plan.families.contains(.v4) { flags.insert(.capturesV4) }
        if plan.families.contains(.v6) { flags.insert(.capturesV6) }
        if plan.capturesDNS { flags.insert(.capturesDNS) }
        if plan.exemptsEveryProbePort { flags.insert(.exemptsProbes) }
        if plan.requiresSeal { flags.insert(.requiresSeal) }
        if plan.virtualInterfaces.contains(interface) { flags.insert(.isVirtual) }
        self = flags
    }
}

/// The kernel parameters that capture by eBPF needs, all of them switches, and what they were before. That stands in the
/// upper half of the class of lo's filter, so no death of the agent loses it.
enum CaptureSetting: UInt32, CaseIterable, Sendable {
    /// What is led to lo has the pod's own address as its source.
    case acceptsOwnSources = 0
    case socketsInheritMarks = 1
    case answersReflectMarks = 2
    case answersReflectMarksV6 = 3

    static let isKept: UInt32 = 1 << 31

    var setting: KernelSetting {
        switch self {
        case .acceptsOwnSources: KernelSetting(path: "/proc/sys/net/ipv4/conf/lo/accept_local")
        case .socketsInheritMarks: NamespaceSetting.socketsInheritMarks.setting
        case .answersReflectMarks: NamespaceSetting.answersReflectMarks.setting
        case .answersReflectMarksV6: NamespaceSetting.answersReflectMarksV6.setting
        }
    }

    private var bit: UInt32 { 1 << (16 + rawValue) }

    /// The values of the calling thread's namespace.
    static func memory() -> UInt32 {
        allCases.reduce(isKept) { memory, setting in
            setting.setting.read().map { $0 == "0" } ?? true ? memory : memory | setting.bit
        }
    }

    func before(_ memory: UInt32) -> String { memory & bit == 0 ? "0" : "1" }
}
