import LinuxNetwork
import Redirection
import Testing

/// The back ends, over which the same behaviour is tested.
enum Means: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case nftables
    /// With the second line behind capture and the seal asked for, which must change nothing while capture is whole and
    /// nobody forges a mark.
    case nftablesTwice
    case ebpf
    /// The same, with the second line and the seal.
    case ebpfTwice

    /// Nothing is translated.
    var usesPrograms: Bool { self == .ebpf || self == .ebpfTwice }

    private static let programs = Result { try EbpfBackend() }

    func backend() throws -> any RedirectionBackend {
        switch self {
        case .nftables: NftablesBackend()
        case .nftablesTwice: SecondLineBackend(real: try Self.telling.get())
        case .ebpf: try Self.programs.get()
        case .ebpfTwice: SecondLineBackend(real: try Self.programs.get())
        }
    }

    private static let telling = Result { try NftablesBackend.tellingSeals() }

    var testDescription: String { rawValue }
}

/// Capture with the second line and the seal, whatever the plan says of them.
struct SecondLineBackend: RedirectionBackend {
    let real: any RedirectionBackend

    private static func twice(_ plan: RedirectionPlan) -> RedirectionPlan {
        var plan = plan
        plan.dropsUncaptured = true
        plan.requiresSeal = true
        return plan
    }

    func apply(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try real.apply(Self.twice(plan), in: namespace)
    }

    func leave(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try real.leave(Self.twice(plan), in: namespace)
    }

    func remove(in namespace: borrowing NetworkNamespace) throws { try real.remove(in: namespace) }

    func verify(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, in namespace: borrowing NetworkNamespace
    ) throws -> [Drift] { try real.verify(Self.twice(plan), phase, in: namespace) }

    func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int {
        try real.capturedConnections(in: namespace)
    }
}
