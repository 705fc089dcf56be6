import LinuxNetwork

/// Which back end a node captures by.
public enum RedirectionMode: String, CaseIterable, Sendable {
    case nftables
    case ebpf
    /// eBPF where the kernel has all that it needs, nf_tables elsewhere.
    case auto
}

/// The back end for a mode on this kernel, and why it is that.
public struct RedirectionChoice: Sendable {
    public let backend: any RedirectionBackend
    /// For an operator, one line.
    public let reason: String

    /// Tries the kernel where that is asked for. Blocks: never call it on the cooperative pool.
    ///
    /// - Parameter tellingSeals: whether plans will ask for the seal. Without, capture by nf_tables needs no program, whose
    ///   loading takes some tens of milliseconds, most of them for the kernel's own types.
    /// - Throws: Where the kernel lacks what `ebpf` needs.
    public static func make(
        _ mode: RedirectionMode, tellingSeals: Bool = true
    ) throws(RedirectionError) -> RedirectionChoice {
        func nftables(_ reason: String) -> RedirectionChoice {
            tellingSeals
                ? Self.nftables(reason)
                : RedirectionChoice(backend: SoleBackend(.nftables(NftablesBackend())), reason: reason)
        }
        switch mode {
        case .nftables: return nftables("nftables, as asked for")
        case .ebpf:
            return RedirectionChoice(backend: SoleBackend(.ebpf(try EbpfBackend())), reason: "ebpf, as asked for")
        case .auto:
            if let missing = KernelFeatures.missingForEbpf(KernelFeatures.probe()).first {
                let lack = "\(missing.name) (Linux \(missing.minimumKernel)): \(missing.detail)"
                return nftables("nftables, since the kernel lacks \(lack)")
            }
            return RedirectionChoice(
                backend: SoleBackend(.ebpf(try EbpfBackend())), reason: "ebpf, since the kernel has all it needs")
        }
    }
}

extension RedirectionChoice {
    /// A kernel without what it takes to tell seals captures all the same; ``RedirectionBackend/sealProblem`` says so.
    private static func nftables(_ reason: String) -> RedirectionChoice {
        let telling: NftablesBackend
        do {
            telling = try NftablesBackend.tellingSeals()
        } catch {
            return RedirectionChoice(
                backend: SoleBackend(.nftables(NftablesBackend())),
                reason: "\(reason); marks cannot be told from forged ones: \(error)")
        }
        return RedirectionChoice(backend: SoleBackend(.nftables(telling)), reason: reason)
    }
}

/// One back end, which takes over from the other what that has captured: a node may be told to change.
struct SoleBackend: RedirectionBackend {
    enum Chosen: Sendable {
        case nftables(NftablesBackend)
        case ebpf(EbpfBackend)
    }

    private let chosen: Chosen

    init(_ chosen: Chosen) { self.chosen = chosen }

    private var backend: any RedirectionBackend {
        switch chosen {
        case .nftables(let backend): backend
        case .ebpf(let backend): backend
        }
    }

    var sealProblem: RedirectionError? { backend.sealProblem }

    func prepare(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        if try !otherHolds(in: namespace) { try backend.prepare(plan, in: namespace) }
    }

    func apply(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try backend.apply(plan, in: namespace)
        guard try otherHolds(in: namespace) else { return }
        // The other goes when this one stands, so nothing passes between. What the two have in common goes with it,
        // and is put back.
        switch chosen {
        case .nftables: try EbpfBackend.removeAttached(in: namespace)
        case .ebpf: try NftablesBackend().remove(in: namespace)
        }
        try backend.apply(plan, in: namespace)
    }

    func leave(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        if try otherHolds(in: namespace) { try apply(plan, in: namespace) }
        try backend.leave(plan, in: namespace)
    }

    func remove(in namespace: borrowing NetworkNamespace) throws {
        try EbpfBackend.removeAttached(in: namespace)
        try NftablesBackend().remove(in: namespace)
    }

    func verify(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, in namespace: borrowing NetworkNamespace
    ) throws -> [Drift] {
        try backend.verify(plan, phase, in: namespace)
    }

    func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int {
        try backend.capturedConnections(in: namespace)
    }

    private func otherHolds(in namespace: borrowing NetworkNamespace) throws -> Bool {
        switch chosen {
        case .nftables: try EbpfBackend.isAttached(in: namespace)
        case .ebpf: try NftablesBackend.isPresent(in: namespace)
        }
    }
}
