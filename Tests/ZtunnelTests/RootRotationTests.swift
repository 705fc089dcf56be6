import Crypto
import Foundation
import Mesh
import TLSEngine
import Testing

@testable import Identity

/// A mesh whose root is replaced while everybody goes on talking, over real handshakes.
@Suite struct RootRotationTests {
    /// A workload's certificate as it was issued at some time, with the roots of that time.
    private struct Holder {
        var name: String
        var certificate: WorkloadCertificate
    }

    private static func issue(_ record: AuthorityRecord, _ name: String, at time: Date) async throws -> Holder {
        let authority = EmbeddedCA(record.material, trustDomain: "cluster.local")
        let identity = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: name)
        let request = try CertificateSigningRequestMaker.make(for: identity)
        let chain = try authority.sign(csrPEM: request.csrPEM, for: identity, validity: nil, now: time)
        return Holder(name: name, certificate: try await chain.certificate(for: identity, key: request.key, at: time))
    }

    private static func material(_ holder: Holder) -> TLSMaterial {
        TLSMaterial(
            certificateChain: holder.certificate.chainDER, privateKey: holder.certificate.privateKeyDER,
            roots: holder.certificate.rootsDER)
    }

    /// Whether two hold a conversation: mutual TLS, each with the name it must have, and a word in each direction.
    private static func talk(_ client: Holder, _ server: Holder, at time: Date) throws -> String? {
        let clock = { @Sendable in Int64(time.timeIntervalSince1970) }
        let ends = [
            try TLSSession(
                TLSContext.client(material(client), clock: clock), expectedIdentities: [server.certificate.identity]),
            try TLSSession(TLSContext.server(material(server), clock: clock)),
        ]
        var inboxes: [[UInt8]] = [[], []]
        var plaintexts: [[UInt8]] = [[], []]
        func step(_ end: Int) throws(TLSError) -> [UInt8] {
            let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)
            let out = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)
            defer {
                plain.deallocate()
                out.deallocate()
            }
            var opened = OutputRawSpan(buffer: plain, initializedCount: 0)
            var output = OutputRawSpan(buffer: out, initializedCount: 0)
            var consumed = 0
            let inbox = inboxes[end]
            _ = try ends[end].receive(
                inbox.span.bytes, consumed: &consumed, plaintext: &opened, output: &output)
            inboxes[end].removeFirst(consumed)
            plaintexts[end] += plain[..<opened.finalize(for: plain)]
            return Array(out[..<output.finalize(for: out)])
        }
        func carry() throws(TLSError) {
            for _ in 0..<8 {
                inboxes[1] += try step(0)
                inboxes[0] += try step(1)
            }
        }
        func say(_ end: Int, _ text: String) throws(TLSError) {
            let out = UnsafeMutableRawBufferPointer.allocate(byteCount: 1000, alignment: 16)
            defer { out.deallocate() }
            var output = OutputRawSpan(buffer: out, initializedCount: 0)
            let bytes = Array(text.utf8)
            _ = try ends[end].seal(bytes.span.bytes, output: &output)
            inboxes[1 - end] += out[..<output.finalize(for: out)]
        }
        do {
            try carry()
            try say(0, "ping")
            try say(1, "pong")
            try carry()
        } catch {
            return "\(client.name) to \(server.name): \(error)"
        }
        let heard = plaintexts.map { String(decoding: $0, as: UTF8.self) }
        return heard == ["pong", "ping"] ? nil : "\(client.name) to \(server.name): heard \(heard)"
    }

    @Test("R50: while the root is replaced, whoever renews at half life talks to everybody else, at every hour of it")
    func nobodyIsCutOff() async throws {
        var times = AuthorityRecord.Times()
        // As short as a mesh of certificates of a day allows.
        times.announcement = .seconds(24 * 3600)
        times.retirement = .seconds(24 * 3600)
        let start = Date(timeIntervalSince1970: 1_800_000_000)
        var record = try AuthorityRecord(trustDomain: "cluster.local", now: start - 3600)
        let first = record.material.rootsDER
        // Each renews at another hour; the last one only just before its certificate ends.
        let renewals: [(name: String, every: Int, offset: Int)] = [
            ("early", 12, 1), ("mid", 12, 7), ("late", 23, 22),
        ]
        var holders: [Holder] = []
        for renewal in renewals { holders.append(try await Self.issue(record, renewal.name, at: start)) }
        var seen: Set<AuthorityRecord.Phase> = []
        for hour in 0..<80 {
            let time = start + Double(hour) * 3600
            _ = try record.advance(to: time, times: times, isWanted: hour == 10)
            seen.insert(record.phase)
            for (index, renewal) in renewals.enumerated() where hour % renewal.every == renewal.offset % renewal.every {
                holders[index] = try await Self.issue(record, renewal.name, at: time)
            }
            for client in holders {
                for server in holders where client.name != server.name {
                    let failure = try Self.talk(client, server, at: time)
                    #expect(failure == nil, "hour \(hour), \(record.phase.rawValue): \(failure ?? "")")
                }
            }
        }
        #expect(seen == [.steady, .announcing, .retiring])
        #expect(record.phase == .steady && Set(record.material.rootsDER).isDisjoint(with: first))
    }

    @Test("R50: without the steps between, old and new do not talk: the test above can fail")
    func withoutSteps() async throws {
        let start = Date(timeIntervalSince1970: 1_800_000_000)
        let old = try await Self.issue(
            AuthorityRecord(trustDomain: "cluster.local", now: start - 3600), "old", at: start)
        let new = try await Self.issue(
            AuthorityRecord(trustDomain: "cluster.local", now: start - 3600), "new", at: start)
        #expect(try Self.talk(old, new, at: start) != nil)
        #expect(try Self.talk(new, old, at: start) != nil)
    }
}
