import Redirection

/// The back ends that the walks are done with.
enum TestedBackend: String, CaseIterable, Sendable {
    case nftables

    var backend: any RedirectionBackend {
        switch self {
        case .nftables: NftablesBackend()
        }
    }
}
