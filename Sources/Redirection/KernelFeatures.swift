import LinuxNetwork
import Netlink

/// Something that capture needs of the kernel, and whether this one has it.
public struct KernelFeature: Hashable, Sendable {
    /// For an operator: `nf_tables`.
    public let name: String
    /// The first Linux that has it, as far as no distribution has brought it to an older one.
    public let minimumKernel: String
    /// The back ends it is for, `nftables` before `ebpf`.
    public let neededBy: [BackEnd]
    public let isPresent: Bool
    /// What was tried, or why it failed.
    public let detail: String

    /// A back end by the name that `--redirection` has for it.
    public enum BackEnd: String, CaseIterable, Hashable, Sendable {
        case nftables
        case ebpf
    }
}

/// What this kernel can do, found out by doing it in a scratch namespace.
public enum KernelFeatures {
    /// Tries each. Blocks for some tens of milliseconds: never call it on the cooperative pool.
    public static func probe() -> [KernelFeature] {
        [nftables(), classifiers(), places(), sparing()]
    }

    /// What capture by eBPF needs and the kernel has not.
    static func missingForEbpf(_ features: [KernelFeature]) -> [KernelFeature] {
        features.filter { !$0.isPresent && $0.neededBy.contains(.ebpf) }
    }

    private enum Name {
        static let nftables = "nf_tables NAT"
        static let classifiers = "eBPF classifiers with sk_assign"
        static let places = "clsact"
        static let sparing = "eBPF socket iterator with setsockopt"
    }

    private static func nftables() -> KernelFeature {
        attempt(Name.nftables, "5.2", for: .nftables, "captured a scratch namespace") {
            try NftablesBackend().apply(RedirectionPlan(), in: NetworkNamespace.make())
        }
    }

    private static func classifiers() -> KernelFeature {
        attempt(Name.classifiers, "5.11", for: .ebpf, "loaded the programs") { _ = try CapturePrograms() }
    }

    private static func places() -> KernelFeature {
        attempt(Name.places, "4.5", for: .ebpf, "attached in a scratch namespace") {
            try NetworkNamespace.make().run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                try routes.addClsact(CaptureFilter.loopback)
            }
        }
    }

    private static func sparing() -> KernelFeature {
        attempt(Name.sparing, "5.15", for: .ebpf, "loaded the program") {
            if let problem = try CapturePrograms().sparingProblem { throw problem }
        }
    }

    private static func attempt(
        _ name: String, _ minimum: String, for backEnd: KernelFeature.BackEnd, _ success: String,
        _ body: () throws -> Void
    ) -> KernelFeature {
        do {
            try body()
            return KernelFeature(
                name: name, minimumKernel: minimum, neededBy: [backEnd], isPresent: true, detail: success)
        } catch {
            return KernelFeature(
                name: name, minimumKernel: minimum, neededBy: [backEnd], isPresent: false, detail: "\(error)")
        }
    }
}
