import Foundation
import Handover
import Testing

/// Bytes made by hand from the protobuf encoding rules and the public field numbers.
@Suite("ZDS on the wire is what Istio's side expects")
struct GoldenTests {
    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test func plainHelloIsVersionOne() throws {
        #expect(ZDSHello().encoded() == [0x08, 0x01])
        #expect(try ZDSHello(decoding: [0x08, 0x01]) == ZDSHello(version: 1, handover: 0, successor: false))
    }

    @Test func helloWithTheHandover() throws {
        // 1000 << 3 = 8000 = 0xc0 0x3e; 1001 << 3 = 8008 = 0xc8 0x3e
        let wire: [UInt8] = [0x08, 0x01, 0xc0, 0x3e, 0x01, 0xc8, 0x3e, 0x01]
        #expect(ZDSHello(handover: 1, successor: true).encoded() == wire)
        #expect(try ZDSHello(decoding: wire).successor)
    }

    @Test func addWorkload() throws {
        let info: [UInt8] = [0x0a, 1] + bytes("n") + [0x12, 2] + bytes("ns") + [0x1a, 2] + bytes("sa")
        let plain: [UInt8] = [0x0a, 3] + bytes("uid") + [0x12, UInt8(info.count)] + info
        let request = ZDSRequest.add(
            uid: "uid", info: ZDSWorkloadInfo(name: "n", namespace: "ns", serviceAccount: "sa"), descriptors: [])
        #expect(request.encoded() == [0x0a, UInt8(plain.count)] + plain)
        #expect(try ZDSRequest(decoding: request.encoded()) == request)
    }

    @Test func addWorkloadWithDescriptorsPackedOrNot() throws {
        let expected = ZDSRequest.add(uid: "u", info: nil, descriptors: [.listenerOutbound, .stock])
        let packed: [UInt8] = [0x0a, 8, 0x0a, 1] + bytes("u") + [0xc2, 0x3e, 2, 1, 6]
        let single: [UInt8] = [0x0a, 9, 0x0a, 1] + bytes("u") + [0xc0, 0x3e, 1, 0xc0, 0x3e, 6]
        #expect(expected.encoded() == packed)
        #expect(try ZDSRequest(decoding: packed) == expected)
        #expect(try ZDSRequest(decoding: single) == expected)
    }

    @Test func addWorkloadAsProtocWritesIt() throws {
        let wire: [UInt8] = [
            0x0a, 0x1a, 0x0a, 0x03, 0x75, 0x69, 0x64, 0x12, 0x0b, 0x0a, 0x01, 0x6e, 0x12, 0x02, 0x6e, 0x73, 0x1a, 0x02,
            0x73, 0x61, 0xc2, 0x3e, 0x05, 0x01, 0x02, 0x03, 0xac, 0x02,
        ]
        let request = ZDSRequest.add(
            uid: "uid", info: ZDSWorkloadInfo(name: "n", namespace: "ns", serviceAccount: "sa"),
            descriptors: [.listenerOutbound, .listenerInboundPlaintext, .listenerHBONE, .init(rawValue: 300)])
        #expect(request.encoded() == wire)
        #expect(try ZDSRequest(decoding: wire) == request)
    }

    @Test("10. ZDS framing: a deletion has its uid in field 2, keep in field 1")
    func deleteHasItsUidInFieldTwoAndKeepInFieldOne() throws {
        #expect(ZDSRequest.delete(uid: "u").encoded() == [0x12, 3, 0x12, 1] + bytes("u"))
        #expect(ZDSRequest.keep(uid: "u").encoded() == [0x2a, 3, 0x0a, 1] + bytes("u"))
        #expect(ZDSRequest.snapshotSent.encoded() == [0x1a, 0])
        #expect(try ZDSRequest(decoding: [0x1a, 0]) == .snapshotSent)
    }

    @Test func anUpdateIsInAFieldIstioDoesNotHave() throws {
        // (1001 << 3 | 2) = 0xca 0x3e
        let wire: [UInt8] = [0xca, 0x3e, 9, 0x0a, 1] + bytes("u") + [0x12, 4, 0x08, 5, 0x18, 1]
        #expect(ZDSRequest.update(uid: "u", PodSettings(connectionLimit: 5, isTerminating: true)).encoded() == wire)
        #expect(try ZDSRequest(decoding: wire).encoded() == wire)
    }

    @Test func acks() throws {
        #expect(ZDSResponse().encoded() == [0x0a, 0])
        #expect(ZDSResponse(error: "no").encoded() == [0x0a, 4, 0x0a, 2] + bytes("no"))
        #expect(try ZDSResponse(decoding: [0x0a, 0]).error.isEmpty)
        #expect(try ZDSResponse(decoding: [0x0a, 4, 0x0a, 2] + bytes("no")).error == "no")
    }

    /// Written by Tests/Peers/zds.py, which knows nothing of this codec.
    @Test func bytesOfTheForeignPeer() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Peers/zds.golden")
        let golden = Dictionary(
            uniqueKeysWithValues: try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
                let parts = line.split(separator: " ")
                let digits = Array(parts[1])
                let bytes = stride(from: 0, to: digits.count, by: 2).compactMap {
                    UInt8(String(digits[$0...($0 + 1)]), radix: 16)
                }
                return (String(parts[0]), bytes)
            })
        let info = ZDSWorkloadInfo(name: "reviews-v1-6", namespace: "bookinfo", serviceAccount: "reviews")
        let long = ZDSWorkloadInfo(
            name: String(repeating: "n", count: 150), namespace: "kube-system", serviceAccount: "default")
        let requests: [String: ZDSRequest] = [
            "add": .add(uid: "uid-1", info: info, descriptors: []),
            "add-long": .add(uid: "2a9b57b8-2b3b-4ee2-9a3a-0f4f3f2f6f6c", info: long, descriptors: []),
            "add-without-info": .add(uid: "uid-1", info: nil, descriptors: []),
            "keep": .keep(uid: "uid-1"), "del": .delete(uid: "uid-1"), "snapshot-sent": .snapshotSent,
        ]
        for (name, request) in requests {
            let bytes = try #require(golden[name], "\(name)")
            #expect(request.encoded() == bytes, "\(name)")
            #expect(try ZDSRequest(decoding: bytes) == request, "\(name)")
        }
        #expect(golden["hello"] == ZDSHello().encoded())
        for (name, error) in ["ack": "", "nack": "failure to start proxy : no"] {
            let bytes = try #require(golden[name])
            #expect(ZDSResponse(error: error).encoded() == bytes)
            #expect(try ZDSResponse(decoding: bytes).error == error)
        }
        #expect(golden.count == requests.count + 3)
    }

    @Test func unknownFieldsOfEveryWireTypeAreSkipped() throws {
        let unknown: [UInt8] =
            [0x98, 0x06, 0xff, 0x01]  // field 99, varint
            + [0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]  // fixed64
            + [0x9a, 0x06, 2, 9, 9]  // delimited
            + [0x9d, 0x06, 1, 2, 3, 4]  // fixed32
        for sample in Samples.all {
            #expect(try sample.decode(unknown + sample.bytes + unknown) == sample.bytes, "\(sample.name)")
        }
    }
}
