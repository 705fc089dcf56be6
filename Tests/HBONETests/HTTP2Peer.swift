import NIOCore
import NIOHPACK

@testable import HBONE

/// Bytes of frames, as a test wants them.
enum Frames {
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    static let settings = frame(FrameType.settings)
    static let settingsAcknowledgement = frame(FrameType.settings, FrameFlag.ack)

    static func frame(_ type: UInt8, _ flags: UInt8 = 0, _ stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(FrameHeader(length: payload.count, type: type, flags: flags, stream: stream))
        return bytes + payload
    }

    static func number(_ value: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: value)
        return bytes
    }

    static func setting(_ id: UInt16, _ value: UInt32) -> [UInt8] {
        frame(FrameType.settings, 0, 0, [UInt8(id >> 8), UInt8(id & 0xff)] + number(value))
    }

    /// A header block without any indexing, so that it may stand anywhere.
    static func block(_ fields: [(String, String)]) -> [UInt8] {
        var bytes: [UInt8] = []
        for (name, value) in fields {
            bytes += [0x00, UInt8(name.utf8.count)]
            bytes += Array(name.utf8)
            let length = value.utf8.count
            if length < 127 { bytes.append(UInt8(length)) } else { bytes += [127] + leb(length - 127) }
            bytes += Array(value.utf8)
        }
        return bytes
    }

    private static func leb(_ value: Int) -> [UInt8] {
        var rest = value
        var bytes: [UInt8] = []
        while rest >= 128 {
            bytes.append(UInt8(rest & 127) | 128)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }

    static let connectBlock = block([(":method", "CONNECT"), (":authority", "10.0.0.1:80")])

    static func connect(_ stream: UInt32, end: Bool = false) -> [UInt8] {
        headers(stream, connectBlock, end: end)
    }

    static func headers(_ stream: UInt32, _ block: [UInt8], end: Bool = false, last: Bool = true) -> [UInt8] {
        let flags = (end ? FrameFlag.endStream : 0) | (last ? FrameFlag.endHeaders : 0)
        return frame(FrameType.headers, flags, stream, block)
    }

    static func data(_ stream: UInt32, _ payload: [UInt8], end: Bool = false) -> [UInt8] {
        frame(FrameType.data, end ? FrameFlag.endStream : 0, stream, payload)
    }

    static func windowUpdate(_ stream: UInt32, _ increment: UInt32) -> [UInt8] {
        frame(FrameType.windowUpdate, 0, stream, number(increment))
    }

    static func reset(_ stream: UInt32, _ code: UInt32 = HTTP2Code.cancel) -> [UInt8] {
        frame(FrameType.resetStream, 0, stream, number(code))
    }

    /// The frames in `bytes`, which must be whole.
    static func parse(_ bytes: [UInt8]) -> [(header: FrameHeader, payload: [UInt8])] {
        var found: [(header: FrameHeader, payload: [UInt8])] = []
        var position = 0
        while position + FrameHeader.size <= bytes.count {
            let header = FrameHeader(bytes.span.bytes, at: position)
            let end = position + FrameHeader.size + header.length
            guard end <= bytes.count else { break }
            found.append((header, Array(bytes[position + FrameHeader.size..<end])))
            position = end
        }
        return found
    }
}

extension HTTP2Connection {
    /// Feeds all of the bytes, at most `piece` at a time.
    mutating func feed(_ bytes: [UInt8], piece: Int = .max) throws(HTTP2Violation) -> [Event] {
        var events: [Event] = []
        var start = 0
        while start < bytes.count {
            let part = Array(bytes[start..<min(bytes.count, start + min(piece, bytes.count))])
            start += part.count
            var position = 0
            while let event = try next(part.span.bytes, &position) { events.append(event) }
            precondition(position == part.count)
        }
        return events
    }

    /// What was to be sent, taken.
    mutating func sent() -> [(header: FrameHeader, payload: [UInt8])] {
        defer { control.removeAll() }
        return Frames.parse(control)
    }

    /// A server or client whose peer has said hello.
    static func greeted(_ role: Role, _ settings: HBONESettings? = nil) throws -> HTTP2Connection {
        var connection = HTTP2Connection(role: role, settings: settings ?? (role == .server ? .server : .client))
        connection.start()
        _ = try connection.feed((role == .server ? Frames.preface : []) + Frames.settings)
        connection.control.removeAll()
        return connection
    }
}
