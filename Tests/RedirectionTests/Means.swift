import LinuxNetwork
import Redirection
import Testing

/// The back ends, over which the same behaviour is tested.
enum Means: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case nftables
    /// With the second line behind capture, which must change nothing while capture is whole.
    case nftablesTwice
    case ebpf

    private static let programs = Result { try EbpfBackend() }

    func backend() throws -> any RedirectionBackend {
        switch self {
        case .nftables: NftablesBackend()
        case .nftablesTwice: SecondLineBackend()
        case .ebpf: try Self.programs.get()
        }
    }

    var testDescription: String { rawValue }
}

/// Capture by nf_tables with the second line, whatever the plan says of it.
struct SecondLineBackend: RedirectionBackend {
    private let real = NftablesBackend()

    private static func twice(_ plan: RedirectionPlan) -> RedirectionPlan {
        var plan = plan
        plan.dropsUncaptured = true
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
