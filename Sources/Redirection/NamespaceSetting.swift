/// A kernel parameter of the namespace that capture needs at a value of its own, and that gets its old one back.
enum NamespaceSetting: String, CaseIterable, Sendable {
    /// Whether conntrack takes up connections in their middle. 0 leaves those that were open before it started
    /// untracked, and so untranslated: they go on as they were.
    case picksUpOpenConnections = "tcp_loose"
    /// An accepted socket inherits the mark of the packet that opened its connection. A listener that has a mark of its
    /// own keeps giving that.
    case socketsInheritMarks = "fwmark_accept"
    /// What the kernel answers without a socket (a refusal, above all) carries the mark of what it answers.
    case answersReflectMarks = "fwmark_reflect"
    case answersReflectMarksV6 = "fwmark_reflect6"

    var setting: KernelSetting {
        switch self {
        case .picksUpOpenConnections: KernelSetting(path: "/proc/sys/net/netfilter/nf_conntrack_tcp_loose")
        case .socketsInheritMarks: KernelSetting(path: "/proc/sys/net/ipv4/tcp_fwmark_accept")
        case .answersReflectMarks: KernelSetting(path: "/proc/sys/net/ipv4/fwmark_reflect")
        case .answersReflectMarksV6: KernelSetting(path: "/proc/sys/net/ipv6/fwmark_reflect")
        }
    }

    /// For a table whose memory was lost.
    var kernelDefault: String { self == .picksUpOpenConnections ? "1" : "0" }

    /// The value that capture wants; `nil` where the plan does not care.
    func wanted(_ plan: RedirectionPlan) -> String? {
        switch self {
        case .picksUpOpenConnections: plan.sparesOpenConnections ? "0" : nil
        case .socketsInheritMarks: "1"
        case .answersReflectMarks: plan.families.contains(.v4) ? "1" : nil
        case .answersReflectMarksV6: plan.families.contains(.v6) ? "1" : nil
        }
    }
}
