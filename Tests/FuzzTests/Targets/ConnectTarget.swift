import Mesh

@testable import HBONE

/// One header block of a request, as it comes out of HPACK, and everything that is read from it.
enum ConnectTarget {
    static func run(_ input: UnsafeRawBufferPointer) {
        guard input.count <= 16000 else { return }
        var server = HTTP2Connection(role: .server, settings: .server)
        server.start()
        var bytes = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]
        bytes.append(
            FrameHeader(length: input.count, type: FrameType.headers, flags: FrameFlag.endHeaders, stream: 1))
        bytes += Array(input)
        var position = 0
        do throws(HTTP2Violation) {
            while let event = try server.next(bytes.span.bytes, &position) {
                guard case .request(_, let request?, _) = event else { continue }
                read(request)
            }
        } catch {
            server.fail(error)
        }
    }

    private static func read(_ request: ConnectRequest) {
        precondition(HTTP2Fields.isAuthority(request.authority))
        if let authority = HBONEAuthority(request.authority) {
            precondition(HBONEAuthority(authority.description) == authority, "an authority reads back as another")
        }
        for field in request.headers { precondition(HTTP2Fields.isRegular(field.name, field.value)) }
        if let value = request.baggage { _ = Baggage(headerValue: value) }
        if let value = request.forwarded { _ = Forwarded(headerValue: value) }
        if let value = request.traceparent { _ = TraceParent(headerValue: value) }
        // What was accepted can be said again, and is the same then.
        var client = HTTP2Connection(role: .server, settings: .server)
        client.start()
        let block = HTTP2FieldEncoder(request).block
        guard block.count <= 16000 else { return }
        var bytes = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]
        bytes.append(
            FrameHeader(length: block.count, type: FrameType.headers, flags: FrameFlag.endHeaders, stream: 1))
        bytes += block
        var position = 0
        do throws(HTTP2Violation) {
            while let event = try client.next(bytes.span.bytes, &position) {
                if case .request(_, let again, _) = event { precondition(again == request) }
            }
        } catch {
            preconditionFailure("our own request is refused: \(error)")
        }
    }
}
