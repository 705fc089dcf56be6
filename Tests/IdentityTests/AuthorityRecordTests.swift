import Foundation
import Testing

@testable import Identity

@Suite struct AuthorityRecordTests {
    let start = Date(timeIntervalSince1970: 1_800_000_000)
    let times = AuthorityRecord.Times()

    private func record() throws -> AuthorityRecord {
        try AuthorityRecord(trustDomain: "cluster.local", now: start)
    }

    private func again(_ record: AuthorityRecord, at time: Date) throws -> AuthorityRecord {
        try AuthorityRecord(parts: record.parts, trustDomain: "cluster.local", name: "the Secret", now: time)
    }

    @Test("R50: a root is replaced in three steps, each no sooner than it may, across restarts of who takes them")
    func steps() throws {
        var record = try record()
        let old = record.material
        // A root with life left stays.
        #expect(try !record.advance(to: start + 365 * 86400, times: times))
        // With less than a fifth left it is time.
        let due = start + 3650 * 86400 * 0.81
        #expect(try record.advance(to: due, times: times))
        #expect(record.phase == .announcing)
        // Both are trusted, the old one signs.
        #expect(record.material.issuer == old.issuer)
        #expect(record.material.rootsDER.count == 2 && record.material.rootsDER[0] == old.rootsDER[0])
        let new = record.material.rootsDER[1]

        record = try again(record, at: due + 60)
        #expect(record.phase == .announcing && record.since == due)
        #expect(try !record.advance(to: due + 48 * 3600 - 1, times: times))
        #expect(try record.advance(to: due + 48 * 3600, times: times))
        #expect(record.phase == .retiring)
        #expect(record.material.rootsDER == [new, old.rootsDER[0]])
        #expect(record.material.issuer != old.issuer)

        let switched = due + 48 * 3600
        record = try again(record, at: switched + 60)
        #expect(record.phase == .retiring)
        // The longest lifetime of a certificate that the old one signed.
        #expect(try !record.advance(to: switched + 90 * 86400 - 1, times: times))
        #expect(try record.advance(to: switched + 90 * 86400, times: times))
        #expect(record.phase == .steady && record.material.rootsDER == [new])
        #expect(try !record.advance(to: switched + 91 * 86400, times: times))
        #expect(try again(record, at: switched + 91 * 86400).material.isSame(as: record.material))
    }

    @Test(
        "R50: a step waits, and none is left out, when the clock of who takes it is behind or a new root is wanted twice"
    )
    func clocks() throws {
        var record = try record()
        #expect(try record.advance(to: start, times: times, isWanted: true))
        // The next leader's clock is an hour behind: the step takes longer, not shorter.
        #expect(try !record.advance(to: start - 3600, times: times, isWanted: true))
        #expect(try !record.advance(to: start + 47 * 3600, times: times, isWanted: true))
        #expect(try record.advance(to: start + 400 * 86400, times: times, isWanted: true))
        #expect(record.phase == .retiring)
        #expect(try !record.advance(to: start + 401 * 86400, times: times, isWanted: true))
    }

    @Test("R50: an authority that Istio made is taken on")
    func istios() throws {
        let made = try AuthorityMaterial.makeParts(trustDomain: "cluster.local", now: start)
        for roots in ["", "\n", made.certificatePEM, nil] as [String?] {
            var parts = [
                "ca-cert.pem": made.certificatePEM, "ca-key.pem": made.keyPEM, "key.pem": "", "cert-chain.pem": "",
            ]
            parts["root-cert.pem"] = roots
            let record = try AuthorityRecord(parts: parts, trustDomain: "cluster.local", name: "x", now: start)
            #expect(record.phase == .steady && record.material.rootsDER.count == 1)
        }
    }

    @Test("R50: a Secret with something missing is refused by the part")
    func incomplete() throws {
        var announced = try record()
        _ = try announced.advance(to: start, times: times, isWanted: true)
        for (part, code) in [
            ("ca-cert.pem", IdentityError.Code.incompleteAuthority), ("ca-key.pem", .incompleteAuthority),
            ("next-ca-key.pem", .incompleteAuthority),
        ] {
            var parts = announced.parts
            parts[part] = nil
            let error = #expect(throws: IdentityError.self) {
                try AuthorityRecord(parts: parts, trustDomain: "cluster.local", name: "the Secret", now: start)
            }
            #expect(error?.code == code && error?.message.contains(part) == true)
        }
        #expect(!"\(announced)".contains("PRIVATE"))
    }
}
