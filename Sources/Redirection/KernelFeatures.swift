import LinuxNetwork

/// Something that capture needs of the kernel, and whether this one has it.
public struct KernelFeature: Hashable, Sendable {
    /// For an operator: `nf_tables`.
    public let name: String
    /// The first Linux that has it, as far as no distribution has brought it to an older one.
    public let minimumKernel: String
    public let isPresent: Bool
    /// What was tried, or why it failed.
    public let detail: String
}

/// What this kernel can do, found out by doing it in a scratch namespace.
public enum KernelFeatures {
    /// Tries each back end as a whole. Blocks for some tens of milliseconds: never call it on the cooperative pool.
    public static func probe() -> [KernelFeature] {
        do {
            try NftablesBackend().apply(RedirectionPlan(), in: NetworkNamespace.make())
            return [feature(true, "captured a scratch namespace")]
        } catch {
            return [feature(false, "\(error)")]
        }
    }

    private static func feature(_ isPresent: Bool, _ detail: String) -> KernelFeature {
        KernelFeature(name: "nf_tables NAT", minimumKernel: "5.2", isPresent: isPresent, detail: detail)
    }
}
