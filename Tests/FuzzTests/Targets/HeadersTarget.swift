import Mesh

/// The values of `baggage`, `forwarded` and `traceparent`, of `:authority`, and a SPIFFE identity: the first byte chooses.
enum HeadersTarget {
    static func run(_ input: UnsafeRawBufferPointer) {
        guard let choice = input.first else { return }
        let text = String(decoding: input.dropFirst(), as: UTF8.self)
        switch choice % 5 {
        case 0:
            let baggage = Baggage(headerValue: text)
            // What is read can be said, and is the same then.
            precondition(Baggage(headerValue: baggage.headerValue) == baggage)
        case 1:
            guard let forwarded = Forwarded(headerValue: text) else { return }
            precondition(text.utf8.count <= Forwarded.maximumLength)
            guard forwarded.source != nil || forwarded.host != nil else { return }
            precondition(Forwarded(headerValue: forwarded.headerValue) == forwarded)
        case 2:
            guard let parent = TraceParent(headerValue: text) else { return }
            precondition(TraceParent(headerValue: parent.headerValue) == parent)
        case 3:
            guard let authority = HBONEAuthority(text) else { return }
            precondition(HBONEAuthority(authority.description) == authority)
        default:
            guard let identity = SPIFFEIdentity(text) else { return }
            precondition(identity.description == text)
        }
    }
}
