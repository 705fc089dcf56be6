import Redirection
import Testing

/// The back ends, over which the same behaviour is tested.
enum Means: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case nftables
    case ebpf

    private static let programs = Result { try EbpfBackend() }

    func backend() throws -> any RedirectionBackend {
        switch self {
        case .nftables: NftablesBackend()
        case .ebpf: try Self.programs.get()
        }
    }

    var testDescription: String { rawValue }
}
