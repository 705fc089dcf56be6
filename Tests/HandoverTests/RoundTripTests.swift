import Handover
import Testing

@Suite("Every message survives the wire")
struct RoundTripTests {
    private func check<Message: HandoverMessage>(_ messages: [Message]) throws {
        for message in messages {
            #expect(try Message(decoding: message.encoded()) == message)
        }
    }

    @Test func cni() throws {
        try check(Samples.cniRequests)
        try check(Samples.cniReplies)
        try check(CNIRequest.Verb.allCases.map { CNIRequest(verb: $0) })
    }

    @Test func keeper() throws {
        try check(Samples.keeperRequests)
        try check(Samples.keeperMessages)
    }

    @Test func zds() throws {
        try check(Samples.hellos)
        try check(Samples.requests)
        try check(Samples.responses)
    }

    @Test func token() throws {
        try check(Samples.tokenRequests)
        try check(Samples.tokenReplies)
    }

    @Test func noErrorAndAnEmptyErrorAreDifferentReplies() throws {
        let none = KeeperMessage(.reply(KeeperReply(id: 1, error: nil)))
        let empty = KeeperMessage(.reply(KeeperReply(id: 1, error: "")))
        #expect(none.encoded() != empty.encoded())
        #expect(try KeeperMessage(decoding: none.encoded()) == none)
        #expect(try KeeperMessage(decoding: empty.encoded()) == empty)
    }

    @Test func emptyElementsOfAListStay() throws {
        let request = CNIRequest(verb: .add, addresses: ["", "10.0.0.1/32", ""])
        #expect(try CNIRequest(decoding: request.encoded()).addresses == ["", "10.0.0.1/32", ""])
    }

    @Test func theLongestReplyFitsItsPacket() throws {
        let name = String(repeating: "n", count: HandoverLimits.name)
        let status = PodStatus(
            uid: name, netnsInode: .max, name: name, namespace: name, serviceAccount: name, state: .failed,
            error: String(repeating: "e", count: HandoverLimits.text))
        let message = KeeperMessage(
            .reply(KeeperReply(id: .max, pods: Array(repeating: status, count: KeeperReply.maximumPods), more: true)))
        #expect(message.encoded().count <= KeeperMessage.maximumLength)
        #expect(try KeeperMessage(decoding: message.encoded()) == message)
    }

    @Test func theLongestGCRequestFitsItsPacket() throws {
        let attachment = CNIRequest.Attachment(
            containerID: String(repeating: "c", count: 40), interfaceName: "eth0")
        let request = CNIRequest(
            verb: .gc, validAttachments: Array(repeating: attachment, count: CNIRequest.maximumAttachments))
        #expect(request.encoded().count <= CNIRequest.maximumLength)
        #expect(try CNIRequest(decoding: request.encoded()) == request)
    }

    @Test func stock() throws {
        let message = StockMessage([.v4, .v6, .v4])
        #expect(message.encoded() == [4, 6, 4])
        #expect(try StockMessage(decoding: [4, 6, 4], descriptors: 3) == message)
        #expect(throws: HandoverError.self) { try StockMessage(decoding: [4, 6], descriptors: 3) }
        #expect(throws: HandoverError.self) { try StockMessage(decoding: [4, 6, 5], descriptors: 3) }
        #expect(throws: HandoverError.self) { try StockMessage(decoding: [], descriptors: 0) }
        #expect(throws: HandoverError.self) {
            try StockMessage(decoding: Array(repeating: 4, count: 33), descriptors: 33)
        }
    }

    @Test func errorTextsAreCutAtACharacter() {
        #expect(HandoverLimits.shortened("short") == "short")
        let long = HandoverLimits.shortened(String(repeating: "ä", count: 400))
        #expect(long.utf8.count <= HandoverLimits.text)
        #expect(long.hasSuffix("ä..."))
        #expect(ZDSResponse(error: String(repeating: "x", count: 5000)).encoded().count <= ZDSResponse.maximumLength)
    }
}
