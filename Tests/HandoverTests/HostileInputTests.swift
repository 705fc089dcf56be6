import Handover
import Testing

@Suite("Bytes that are no message")
struct HostileInputTests {
    /// Cutting a message anywhere gives a shorter message (between fields) or an error, nothing else.
    @Test func truncationsAtEveryLength() {
        for sample in Samples.all {
            for length in 0..<sample.bytes.count {
                do {
                    let again = try sample.decode(Array(sample.bytes.prefix(length)))
                    #expect(again.count <= length + 4, "\(sample.name) cut to \(length)")
                } catch let error as HandoverError {
                    #expect([.truncated, .missing].contains(error.code), "\(sample.name) cut to \(length): \(error)")
                    #expect(!error.message.isEmpty)
                } catch {
                    Issue.record("\(sample.name) cut to \(length): \(error)")
                }
            }
        }
    }

    /// What decodes at all decodes to a value that encodes and decodes to itself.
    @Test func mutationsNeverTrap() throws {
        var random = SeededGenerator(state: 20_260_901)
        var accepted = 0
        var refused = 0
        for sample in Samples.all {
            for _ in 0..<2_000 {
                var bytes = sample.bytes
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    switch Int.random(in: 0..<4, using: &random) {
                    case 0 where !bytes.isEmpty:
                        bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
                    case 1 where !bytes.isEmpty:
                        bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
                            1 << UInt8.random(in: 0..<8, using: &random)
                    case 2 where !bytes.isEmpty:
                        bytes.remove(at: Int.random(in: 0..<bytes.count, using: &random))
                    default:
                        bytes.insert(
                            .random(in: 0...255, using: &random), at: .random(in: 0...bytes.count, using: &random))
                    }
                }
                do {
                    let once = try sample.decode(bytes)
                    #expect(try sample.decode(once) == once)
                    accepted += 1
                } catch is HandoverError {
                    refused += 1
                }
            }
        }
        #expect(accepted > 0 && refused > 0)
    }

    @Test func randomBytesNeverTrap() throws {
        var random = SeededGenerator(state: 7)
        for _ in 0..<2_000 {
            let bytes = (0..<Int.random(in: 0...200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            for sample in Samples.all {
                do { _ = try sample.decode(bytes) } catch is HandoverError { continue }
            }
        }
    }

    @Test(
        arguments: [
            // field 2 (hello) as a varint, field 1 (id) as a string
            ([0x10, 0x01], HandoverError.Code.wrongWireType),
            ([0x0a, 0x00], .wrongWireType),
            // field number zero, a group, a wire type that does not exist
            ([0x00, 0x00], .malformed),
            ([0x0b], .malformed),
            ([0x0f], .malformed),
            // a varint of eleven bytes, and one whose tenth byte holds more than one bit
            ([0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], .malformed),
            ([0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], .malformed),
            // a length far beyond the end
            ([0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], .truncated),
            // a removal's uid that is not UTF-8
            ([0x22, 0x03, 0x0a, 0x01, 0xff], .notUTF8),
            // a hello whose version does not fit
            ([0x12, 0x06, 0x08, 0xff, 0xff, 0xff, 0xff, 0x1f], .outOfRange),
            // no command; a removal and an addition without a uid
            ([0x08, 0x01], .missing),
            ([0x22, 0x00], .missing),
            ([0x1a, 0x00], .missing),
        ] as [([UInt8], HandoverError.Code)])
    func eachFaultHasItsCode(bytes: [UInt8], code: HandoverError.Code) {
        let error = #expect(throws: HandoverError.self) { try KeeperRequest(decoding: bytes) }
        #expect(error?.code == code, "\(String(describing: error))")
        #expect(error?.message.hasPrefix("KeeperRequest") == true)
    }

    @Test func stringsBeyondTheirLimit() {
        let long = String(repeating: "x", count: HandoverLimits.name + 1)
        let error = #expect(throws: HandoverError.self) {
            try KeeperRequest(decoding: KeeperRequest(id: 1, command: .removePod(uid: long, drain: false)).encoded())
        }
        #expect(error?.code == .tooLong)
        #expect(error?.message.contains("254") == true)
    }

    @Test func listsBeyondTheirLimit() {
        func code(_ body: () throws -> Void) -> HandoverError.Code? {
            #expect(throws: HandoverError.self, performing: body)?.code
        }

        #expect(
            code {
                let many = CNIRequest(
                    verb: .add, addresses: Array(repeating: "", count: CNIRequest.maximumAddresses + 1))
                _ = try CNIRequest(decoding: many.encoded())
            } == .tooMany)
        #expect(
            code {
                let none = CNIRequest.Attachment(containerID: "", interfaceName: "")
                let many = CNIRequest(
                    verb: .gc, validAttachments: Array(repeating: none, count: CNIRequest.maximumAttachments + 1))
                _ = try CNIRequest(decoding: many.encoded())
            } == .tooMany)
        #expect(
            code {
                let pods = Array(repeating: Samples.status, count: KeeperReply.maximumPods + 1)
                _ = try KeeperMessage(decoding: KeeperMessage(.reply(KeeperReply(id: 1, pods: pods))).encoded())
            } == .tooMany)
        #expect(
            code {
                let kinds = Array(repeating: HandoverDescriptor.stock, count: HandoverLimits.descriptors + 1)
                _ = try ZDSRequest(decoding: ZDSRequest.add(uid: "u", info: nil, descriptors: kinds).encoded())
            } == .tooMany)
    }

    @Test func packetsBeyondTheirLimit() {
        let error = #expect(throws: HandoverError.self) {
            try ZDSResponse(decoding: Array(repeating: 0, count: ZDSResponse.maximumLength + 1))
        }
        #expect(error?.code == .tooLong)
    }

    @Test func aVerbOrStateThatDoesNotExist() {
        #expect(throws: HandoverError.self) { try CNIRequest(decoding: [0x08, 0x09]) }
        #expect(throws: HandoverError.self) { try CNIRequest(decoding: [0x08, 0x00]) }
        #expect(throws: HandoverError.self) { try CNIRequest(decoding: []) }
        // podStatus{uid "u", state 9}
        #expect(throws: HandoverError.self) { try KeeperMessage(decoding: [0x12, 5, 0x0a, 1, 0x75, 0x30, 9]) }
    }
}
