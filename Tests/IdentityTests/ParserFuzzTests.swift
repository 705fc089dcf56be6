import Crypto
import Foundation
import Mesh
import SwiftASN1
import Testing

@testable import Identity

/// Seeded mutations of good inputs: every one ends in a typed error or in a correct result, in bounded time.
@Suite(.timeLimit(.minutes(1))) struct ParserFuzzTests {
    /// SplitMix64: the same sequence on every machine.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
    }

    private func mutated(_ input: [UInt8], _ generator: inout Generator) -> [UInt8] {
        var bytes = input
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
            let position = Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: bytes[position] = UInt8.random(in: 0...255, using: &generator)
            case 1: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 2: bytes.remove(at: position)
            case 3: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: position)
            case 4: bytes.removeSubrange(position...)
            default:
                let end = Int.random(in: position...bytes.count, using: &generator)
                bytes.insert(contentsOf: bytes[position..<end], at: position)
            }
        }
        return bytes
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func signingRequests(seed: UInt64) throws {
        let directory = try TemporaryDirectory()
        let now = Date()
        let authority = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: now)
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let der = try PEMDocument(pemString: request.csrPEM).derBytes
        var generator = Generator(state: seed)
        for round in 0..<1500 {
            let text: String
            if round.isMultiple(of: 2) {
                let bytes = mutated(der, &generator)
                text = PEMDocument(type: "CERTIFICATE REQUEST", derBytes: bytes).pemString + "\n"
            } else {
                text = String(decoding: mutated(Array(request.csrPEM.utf8), &generator), as: UTF8.self)
            }
            do {
                let chain = try authority.sign(csrPEM: text, for: workload("client"), validity: nil, now: now)
                // What is signed all the same is for the one key whose holder signed the request.
                let key = request.key
                #expect(try SigningRequestCheck.publicKey(ofRequest: text) == .init(key.publicKey))
                #expect(chain.chainDER.count == 1)
            } catch {
                #expect(
                    [.requestMalformed, .requestSignature, .requestsAuthority, .unsupportedKey, .requestTooLarge]
                        .contains(error.code))
            }
        }
    }

    @Test(arguments: [5, 6] as [UInt64])
    func answersOfTheAuthority(seed: UInt64) async throws {
        let directory = try TemporaryDirectory()
        let now = Date()
        let authority = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: now)
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let good = try authority.sign(csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: now)
        var generator = Generator(state: seed)
        for round in 0..<600 {
            do {
                let chain: IssuedChain
                if round.isMultiple(of: 2) {
                    chain = IssuedChain(
                        chainDER: [mutated(good.chainDER[0], &generator)],
                        rootsDER: [round.isMultiple(of: 4) ? good.rootsDER[0] : mutated(good.rootsDER[0], &generator)])
                } else {
                    chain = try IssuedChain(
                        elements: good.elements.map {
                            String(decoding: mutated(Array($0.utf8), &generator), as: UTF8.self)
                        })
                }
                let certificate = try await chain.certificate(for: workload("client"), key: request.key, at: now)
                #expect(certificate.identity == workload("client"))
                #expect(certificate.notAfter > now)
            } catch {
                #expect(error.code != .authorityUnreachable)
            }
        }
    }

    @Test(arguments: [7, 8] as [UInt64])
    func tokens(seed: UInt64) async throws {
        let issuer = try await NodeTokenIssuer(key: P256.Signing.PrivateKey())
        let now = Date(timeIntervalSince1970: 1_800_000_000)
        let token = try await issuer.issue(node: "n1", now: now).token
        var generator = Generator(state: seed)
        for _ in 0..<1500 {
            let text = String(decoding: mutated(Array(token.utf8), &generator), as: UTF8.self)
            do {
                // The last character carries unused bits; whatever else is accepted says the same as the original.
                #expect(try await issuer.verifier.verify(text, now: now).node == "n1")
            } catch {
                #expect(error.code.rawValue.hasPrefix("token"))
            }
        }
    }
}
