import Handover

/// One packet of a node's sockets: ZDS as istio-cni and our keeper speak it, and our own messages. The first byte chooses.
enum HandoverTarget {
    static func run(_ input: UnsafeRawBufferPointer) {
        guard let choice = input.first else { return }
        let bytes = Array(input.dropFirst())
        switch choice % 8 {
        case 0: check(ZDSHello.self, bytes)
        case 1: check(ZDSRequest.self, bytes)
        case 2: check(ZDSResponse.self, bytes)
        case 3: check(CNIRequest.self, bytes)
        case 4: check(CNIReply.self, bytes)
        case 5: check(KeeperRequest.self, bytes)
        case 6: check(KeeperMessage.self, bytes)
        default: check(TokenRequest.self, bytes)
        }
    }

    private static func check<Message: HandoverMessage>(_ type: Message.Type, _ bytes: [UInt8]) {
        guard let message = try? Message(decoding: bytes) else { return }
        precondition(bytes.count <= Message.maximumLength)
        // What was read can be written, and reads the same again, where it is still within the limit.
        let again = message.encoded()
        guard again.count <= Message.maximumLength else { return }
        precondition((try? Message(decoding: again)) == message, "\(Message.name) reads back as another")
    }
}
