import CNIOBoringSSL
import Synchronization

/// All lists of one file. Immutable but for what was found out about signatures.
public final class RevocationLists: Sendable {
    /// What the lists say of a chain.
    enum Verdict: Equatable {
        case good
        case revoked(subject: String, issuer: String, serial: String)
        /// There are lists in this authority's name, and it has signed none of them.
        case unsigned(issuer: String)
    }

    let lists: [RevocationList]
    private let byIssuer: [UInt32: [RevocationList]]
    /// Of each authority met: the lists that are its own.
    private let signed = Mutex<[AuthorityKey: Own]>([:])
    /// Bounds what peers' chains can make us remember; beyond it signatures are checked again each time.
    private static let maximumAuthorities = 1024

    private struct Own {
        let lists: [RevocationList]
        /// There were lists in its name.
        let wasMeant: Bool
    }

    /// No list: nothing is revoked.
    public convenience init() { self.init(lists: []) }

    private init(lists: [RevocationList]) {
        self.lists = lists
        byIssuer = Dictionary(grouping: lists, by: \.issuerHash)
    }

    /// Reads a file: PEM with any number of blocks, of which those that are no lists are passed over, or one list as
    /// DER. An empty file revokes nothing.
    public convenience init(contentsOf file: [UInt8]) throws(RevocationError) {
        var lists: [RevocationList] = []
        for der in try Self.blocks(file) { lists.append(try RevocationList(der: der)) }
        self.init(lists: lists)
    }

    /// Entries of all lists.
    public var count: Int { lists.reduce(0) { $0 + $1.revoked.count } }

    /// Issuers of lists whose successor should have come before this moment (seconds since 1970).
    public func overdue(at now: Int64) -> [String] {
        lists.filter { $0.nextUpdate.map { $0 < now } ?? false }.map(\.issuer)
    }

    /// Whether a list that its authority is known to have signed names the certificate.
    public func isRevoked(_ key: CertificateKey) -> Bool {
        signed.withLock { $0.values.contains { $0.lists.contains { $0.revoked.contains(key) } } }
    }

    /// All that lists with known signatures revoke.
    public var revokedKeys: Set<CertificateKey> {
        signed.withLock { $0.values.reduce(into: []) { for list in $1.lists { $0.formUnion(list.revoked) } } }
    }

    /// Checks the signatures for an authority ahead of need.
    func meet(_ authority: Certificate) { _ = own(authority) }

    /// Holds a verified chain, leaf first and trust anchor last, against the lists.
    func check(_ chain: [Certificate]) -> Verdict {
        guard !lists.isEmpty else { return .good }
        for (certificate, authority) in zip(chain, chain.dropFirst()) {
            guard byIssuer[certificate.issuerHash] != nil else { continue }
            let own = own(authority)
            guard own.wasMeant else { continue }
            guard !own.lists.isEmpty else { return .unsigned(issuer: authority.subject) }
            guard let key = CertificateKey(certificate) else { continue }
            if own.lists.contains(where: { $0.revoked.contains(key) }) {
                return .revoked(
                    subject: certificate.identities.first?.description ?? certificate.subject,
                    issuer: certificate.issuer, serial: certificate.serial)
            }
        }
        return .good
    }

    private func own(_ authority: Certificate) -> Own {
        let meant = (byIssuer[authority.subjectHash] ?? []).filter { $0.isMeant(for: authority) }
        guard !meant.isEmpty, let key = AuthorityKey(authority) else { return Own(lists: [], wasMeant: !meant.isEmpty) }
        if let known = signed.withLock({ $0[key] }) { return known }
        let own = Own(lists: meant.filter { $0.isSigned(by: authority) }, wasMeant: true)
        signed.withLock { if $0.count < Self.maximumAuthorities { $0[key] = own } }
        return own
    }

    // MARK: The file

    private static func blocks(_ file: [UInt8]) throws(RevocationError) -> [[UInt8]] {
        // DER begins with a SEQUENCE; no PEM text with a character of that value, which is "0".
        if file.first == 0x30, !contains(file, "-----BEGIN ") { return [file] }
        guard contains(file, "-----BEGIN ") else {
            guard file.allSatisfy({ [0x20, 0x09, 0x0a, 0x0d].contains($0) }) else {
                throw RevocationError("the file is neither PEM nor DER")
            }
            return []
        }
        guard let bio = BIO_new_mem_buf(file, file.count) else { throw RevocationError("no memory to read the file") }
        defer {
            BIO_free(bio)
            ERR_clear_error()
        }
        var blocks: [[UInt8]] = []
        var found = 0
        while true {
            var name: UnsafeMutablePointer<CChar>?
            var header: UnsafeMutablePointer<CChar>?
            var data: UnsafeMutablePointer<UInt8>?
            var length = 0
            guard PEM_read_bio(bio, &name, &header, &data, &length) == 1, let name, let data else { break }
            defer {
                OPENSSL_free(name)
                OPENSSL_free(header)
                OPENSSL_free(data)
            }
            found += 1
            if String(cString: name) == "X509 CRL" {
                blocks.append(Array(UnsafeBufferPointer(start: data, count: length)))
            }
        }
        // The reader stops at what it cannot read; a file that was cut off must not count as a shorter one.
        let begun = occurrences(file, "-----BEGIN ")
        guard found == begun else {
            throw RevocationError("PEM block \(found + 1) of \(begun) cannot be read; is the file cut off?")
        }
        return blocks
    }

    private static func contains(_ file: [UInt8], _ text: StaticString) -> Bool { occurrences(file, text) > 0 }

    private static func occurrences(_ file: [UInt8], _ text: StaticString) -> Int {
        text.withUTF8Buffer { pattern in
            var count = 0
            var index = 0
            while index + pattern.count <= file.count {
                if file[index] == pattern[0], file[index..<index + pattern.count].elementsEqual(pattern) {
                    count += 1
                    index += pattern.count
                } else {
                    index += 1
                }
            }
            return count
        }
    }
}
