@testable import TLSEngine

/// What a peer with the right keys may send after the handshake: messages of the handshake type, however they are cut.
enum TLSRecordsTarget {
    static func run(_ input: UnsafeRawBufferPointer) {
        guard let first = input.first else { return }
        var reader = PostHandshakeReader(first & 1 == 0 ? .client : .server)
        let piece = Int(first >> 1 & 31) + 1
        var rest = UnsafeRawBufferPointer(rebasing: input.dropFirst())
        var messages = 0
        while !rest.isEmpty {
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(piece))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece))
            do throws(TLSError) {
                if try reader.read(part) != nil {
                    messages += 1
                    precondition(!reader.isInsideMessage, "nothing follows a KeyUpdate in its record")
                }
            } catch {
                return precondition(error.alert != nil)
            }
            precondition(messages <= 32, "messages without end")
            if first & 0x40 != 0, !reader.isInsideMessage {
                reader.sawApplicationData()
                messages = 0
            }
        }
    }
}
