import Addressing
import Foundation
import Identity
import Mesh
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// Strangers and liars at 15008: a closed connection or a refusal, the next good request works, nothing is left.
    @Suite("Hostile peers at 15008", .serialized)
    struct HostileTunnelTests {
        private func withKnock(_ body: (Stage, Knock, EmbeddedCA) throws -> Void) throws {
            try TestMesh.run { stage in
                let before = stage.descriptors()
                let rules = try stage.server.kernelState().parts["ruleset"]
                // From the client's node: no pod, so nothing captures it.
                let knock = Knock(
                    namespace: stage.client.node.namespace,
                    target: Endpoint(try stage.server.address(.v4), Stage.hbonePort))
                let authority = try EmbeddedCA(
                    directory: stage.cluster.layout.controllerState, trustDomain: "cluster.local", now: Date())
                try body(stage, knock, authority)
                try stage.expectServed()
                try stage.expectNoDescriptorsLeft(since: before)
                #expect(try stage.server.kernelState().parts["ruleset"] == rules)
            }
        }

        private static let client = "spiffe://cluster.local/ns/shop/sa/client"

        @Test func whatIsNotTLSIsClosed() throws {
            try withKnock { _, knock, _ in
                for bytes in [
                    Array("GET / HTTP/1.1\r\n\r\n".utf8), [UInt8](repeating: 0, count: 4000),
                    [22, 3, 1, 0xff, 0xff] + [UInt8](repeating: 1, count: 100), [22, 3, 1, 0, 4, 1, 0, 0, 0],
                ] {
                    let answer = try knock.plain(bytes)
                    // At most an alert: 21, version 3.x, a length of 2.
                    #expect(answer.isEmpty || (answer[0] == 21 && answer.count == 7), "\(answer.prefix(20))")
                }
            }
        }

        @Test func withoutACertificateNothingIsSaid() throws {
            try withKnock { stage, knock, _ in
                let answer = try knock.tls(HTTP2.connect("\(try stage.http())"))
                #expect(answer.status() == nil)
            }
        }

        @Test func aGoodCertificateIsAnswered() throws {
            // The control: without it, refusals would prove nothing.
            try withKnock { stage, knock, authority in
                let good = try Knock.Credentials(authority, Self.client)
                #expect(try knock.tls(HTTP2.connect("\(stage.http())"), as: good).isAccepted())
            }
        }

        @Test func olderVersionsOfTLSAreRefused() throws {
            try withKnock { stage, knock, authority in
                let good = try Knock.Credentials(authority, Self.client)
                let answer = try knock.tls(HTTP2.connect("\(stage.http())"), as: good, extra: ["-tls1_2"])
                #expect(answer.status() == nil)
            }
        }

        @Test func aCertificateOfAnotherAuthorityOrTrustDomainIsRefused() throws {
            try withKnock { stage, knock, _ in
                let folder = "\(stage.cluster.layout.folder)/other-authority"
                for domain in ["cluster.local", "elsewhere.example"] {
                    try Files.makeFolder("\(folder)-\(domain)", mode: 0o700)
                    let other = try EmbeddedCA(directory: "\(folder)-\(domain)", trustDomain: domain, now: Date())
                    let forged = try Knock.Credentials(other, "spiffe://\(domain)/ns/shop/sa/client")
                    #expect(try knock.tls(HTTP2.connect("\(stage.http())"), as: forged).status() == nil)
                }
            }
        }

        @Test func connectToWhatIsNotThePodsIsRefused() throws {
            try withKnock { stage, knock, authority in
                #expect("\(try stage.server.address(.v4))" == "10.201.2.2")
                let bad = [
                    "192.0.2.1:80", "10.201.1.2:8080", "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080", "example.com:80",
                    "", "nonsense", "10.201.2.2", "10.201.2.2:0", "10.201.2.2:99999", "10.201.2.2:15001",
                    "10.201.2.2:15006", "10.201.2.2:15008",
                ]
                let good = try Knock.Credentials(authority, Self.client)
                // All on one connection, and a good one last: that they are refused must not end the others.
                let answer = try knock.tls(HTTP2.connect(bad + ["10.201.2.2:8080"]), as: good)
                for (index, authority) in bad.enumerated() {
                    let stream = UInt8(1 + 2 * index)
                    #expect(answer.isAnswered(stream), "\"\(authority)\" was not answered")
                    #expect(!answer.isAccepted(stream), "\"\(authority)\" was accepted")
                }
                #expect(answer.isAccepted(UInt8(1 + 2 * bad.count)))
            }
        }

        @Test func garbageInsideTheTunnelClosesItAndNoMore() throws {
            try withKnock { stage, knock, authority in
                let good = try Knock.Credentials(authority, Self.client)
                let garbage: [[UInt8]] = [
                    Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8),
                    HTTP2.preface + [UInt8](repeating: 0xff, count: 5000),
                    // SETTINGS on a stream; a HEADERS that HPACK cannot read; DATA on a stream that was never opened.
                    HTTP2.preface + HTTP2.frame(4, stream: 1),
                    HTTP2.preface + HTTP2.frame(4)
                        + HTTP2.frame(1, flags: 4, stream: 1, [0xff, 0xff, 0xff, 0xff, 0x7f]),
                    HTTP2.preface + HTTP2.frame(4) + HTTP2.frame(0, stream: 1, [1, 2, 3]),
                    HTTP2.preface + HTTP2.frame(4) + HTTP2.frame(8, stream: 0, [0, 0, 0, 0]),
                ]
                for bytes in garbage { #expect(try !knock.tls(bytes, as: good).isAccepted()) }
            }
        }
    }
}
