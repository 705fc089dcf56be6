import CNIOBoringSSL
import Synchronization

/// The revocation lists in force, which handshakes of all threads look at and one watcher of the file replaces.
public final class RevocationStore: Sendable {
    private enum Lists {
        case usable(RevocationLists)
        /// The file cannot be used; what it said before is kept for connections that were checked already.
        case unusable(reason: String, before: RevocationLists)
    }

    private struct State {
        var lists: Lists
        var generation: UInt64 = 1
        /// Authorities of chains that were verified: new lists are checked against them before they are in force.
        var authorities: [AuthorityKey: Certificate] = [:]
    }

    private static let maximumAuthorities = 256
    private let state: Mutex<State>
    private let onRejection: @Sendable (TLSContext.Role) -> Void

    /// Nothing is accepted until lists are installed.
    /// - Parameters:
    ///   - reason: Why there are no lists yet, for the error.
    ///   - onRejection: Called, on the handshake's thread, with our role for each peer that is refused as revoked.
    public init(unusable reason: String, onRejection: @escaping @Sendable (TLSContext.Role) -> Void = { _ in }) {
        state = Mutex(State(lists: .unusable(reason: reason, before: RevocationLists())))
        self.onRejection = onRejection
    }

    /// Counts the changes.
    public var generation: UInt64 { state.withLock { $0.generation } }

    /// Puts lists in force. Signatures of authorities that are known are checked before, on the caller's thread.
    /// - Returns: The certificates that are revoked now and were not before.
    @discardableResult
    public func install(_ lists: RevocationLists) -> Set<CertificateKey> {
        let authorities = state.withLock { Array($0.authorities.values) }
        for authority in authorities { lists.meet(authority) }
        let before = state.withLock { state -> RevocationLists in
            defer {
                state.lists = .usable(lists)
                state.generation += 1
            }
            switch state.lists {
            case .usable(let before), .unusable(_, let before): return before
            }
        }
        return lists.revokedKeys.subtracting(before.revokedKeys)
    }

    /// The file cannot be used: new handshakes are refused with this reason until ``install(_:)``.
    public func refuse(_ reason: String) {
        state.withLock { state in
            switch state.lists {
            case .usable(let before), .unusable(_, let before): state.lists = .unusable(reason: reason, before: before)
            }
        }
    }

    /// Whether any certificate of a chain is revoked by the lists that were in force last.
    public func isRevoked(_ chain: [CertificateKey]) -> Bool {
        let lists = state.withLock { state in
            switch state.lists {
            case .usable(let lists), .unusable(_, let lists): lists
            }
        }
        return chain.contains { lists.isRevoked($0) }
    }

    /// Holds a verified chain against the lists.
    /// - Returns: What to recognise the chain by later.
    func check(_ chain: [Certificate], _ role: TLSContext.Role) throws(TLSError) -> CheckedChain {
        let (lists, generation) = state.withLock { ($0.lists, $0.generation) }
        switch lists {
        case .unusable(let reason, _):
            throw TLSError(
                .revocationUnknown, "whether the peer's certificate is revoked cannot be known: \(reason)",
                alert: Alert.certificateUnknown)
        case .usable(let lists):
            switch lists.check(chain) {
            case .good: break
            case .revoked(let subject, let issuer, let serial):
                onRejection(role)
                throw TLSError(
                    .certificateRevoked, "the certificate of \(subject), number \(serial) of \(issuer), is revoked",
                    alert: Alert.certificateRevoked)
            case .unsigned(let issuer):
                throw TLSError(
                    .revocationUnknown,
                    "the revocation list in the name of \(issuer) is not signed with the key of that authority",
                    hint: "the file of CRL_PATH needs the list that this authority issued",
                    alert: Alert.certificateUnknown)
            }
        }
        remember(chain.dropFirst())
        return CheckedChain(keys: chain.dropLast().compactMap { CertificateKey($0) }, generation: generation)
    }

    private func remember(_ authorities: ArraySlice<Certificate>) {
        for authority in authorities {
            guard let key = AuthorityKey(authority) else { continue }
            state.withLock { state in
                if state.authorities[key] == nil, state.authorities.count < Self.maximumAuthorities {
                    state.authorities[key] = authority
                }
            }
        }
    }
}

/// A peer's chain as it was when it was held against the lists.
struct CheckedChain: Sendable {
    /// Leaf first, without the trust anchor; empty where nothing is revoked ever.
    var keys: [CertificateKey] = []
    /// Of the lists.
    var generation: UInt64 = 0
}
