import HBONE

/// A header of PROXY protocol version 2.
enum ProxyProtocolTarget {
    private static func parse(_ bytes: [UInt8]) throws(ProxyHeaderError) -> (header: ProxyHeader, length: Int)? {
        try ProxyHeader.parse(bytes.span.bytes)
    }

    static func run(_ input: UnsafeRawBufferPointer) {
        let bytes = Array(input)
        let read: (header: ProxyHeader, length: Int)?
        do {
            read = try parse(bytes)
        } catch {
            return
        }
        guard let read else {
            // Only what could still become one is waited for.
            return precondition(bytes.count < ProxyHeader.maximumLength)
        }
        precondition(read.length >= 16 && read.length <= min(bytes.count, ProxyHeader.maximumLength))
        _ = read.header.clientIdentity
        guard read.header.ends != nil else { return }
        // Written again it is at most as long, and the same.
        let again = read.header.encoded
        precondition(again.count <= read.length)
        do {
            let second = try parse(again)
            precondition(second?.header == read.header && second?.length == again.count)
        } catch {
            preconditionFailure("our own header is refused: \(error)")
        }
    }
}
