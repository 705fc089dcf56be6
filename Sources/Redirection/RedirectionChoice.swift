import LinuxNetwork

/// Which back end a node captures by.
public enum RedirectionMode: String, CaseIterable, Sendable {
    case nftables
    case ebpf
    /// eBPF for what it can do on this kernel, nf_tables for the rest.
    case auto
}

/// The back end for a mode on this kernel, and why it is that.
public struct RedirectionChoice: Sendable {
    public let backend: any RedirectionBackend
    /// For an operator, one line.
    public let reason: String

    /// Tries the kernel where that is asked for. Blocks: never call it on the cooperative pool.
    /// - Throws: Where the kernel lacks what `ebpf` needs.
    public static func make(_ mode: RedirectionMode) throws(RedirectionError) -> RedirectionChoice {
        switch mode {
        case .nftables: return RedirectionChoice(backend: NftablesBackend(), reason: "nftables, as asked for")
        case .ebpf: return RedirectionChoice(backend: try EbpfBackend(), reason: "ebpf, as asked for")
        case .auto:
            let features = KernelFeatures.probe()
            if let missing = KernelFeatures.missingForEbpf(features).first {
                let lack = "\(missing.name) (Linux \(missing.minimumKernel)): \(missing.detail)"
                return RedirectionChoice(backend: NftablesBackend(), reason: "nftables, since the kernel lacks \(lack)")
            }
            return RedirectionChoice(
                backend: MixedBackend(ebpf: try EbpfBackend()),
                reason: "ebpf, since the kernel has all of it; nftables for pods whose DNS is captured")
        }
    }
}

/// Each pod by the back end that can do what its plan asks for.
struct MixedBackend: RedirectionBackend {
    let ebpf: EbpfBackend
    let nftables = NftablesBackend()

    private func chosen(_ plan: RedirectionPlan) -> any RedirectionBackend { plan.capturesDNS ? nftables : ebpf }

    func apply(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        let chosen = chosen(plan)
        try chosen.apply(plan, in: namespace)
        let isLeftOver = plan.capturesDNS ? try ebpf.holds(in: namespace) : try nftables.holds(in: namespace)
        guard isLeftOver else { return }
        // The plan has changed sides. The other goes when this one stands, so nothing passes between; what the two
        // have in common goes with it, and is put back.
        try plan.capturesDNS ? ebpf.remove(in: namespace) : nftables.remove(in: namespace)
        try chosen.apply(plan, in: namespace)
    }

    func leave(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try chosen(plan).leave(plan, in: namespace)
    }

    func remove(in namespace: borrowing NetworkNamespace) throws {
        try ebpf.remove(in: namespace)
        try nftables.remove(in: namespace)
    }

    func verify(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, in namespace: borrowing NetworkNamespace
    ) throws -> [Drift] {
        try chosen(plan).verify(plan, phase, in: namespace)
    }

    /// Both know them by the same signs.
    func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int {
        try nftables.capturedConnections(in: namespace)
    }
}
