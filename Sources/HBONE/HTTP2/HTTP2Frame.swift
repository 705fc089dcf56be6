/// Frame types (RFC 9113 section 6).
enum FrameType {
    static let data: UInt8 = 0
    static let headers: UInt8 = 1
    static let priority: UInt8 = 2
    static let resetStream: UInt8 = 3
    static let settings: UInt8 = 4
    static let pushPromise: UInt8 = 5
    static let ping: UInt8 = 6
    static let goAway: UInt8 = 7
    static let windowUpdate: UInt8 = 8
    static let continuation: UInt8 = 9
}

enum FrameFlag {
    static let endStream: UInt8 = 0x1
    static let ack: UInt8 = 0x1
    static let endHeaders: UInt8 = 0x4
    static let padded: UInt8 = 0x8
    static let priority: UInt8 = 0x20
}

/// Parameters of a SETTINGS frame (section 6.5.2).
enum SettingID {
    static let headerTableSize: UInt16 = 1
    static let enablePush: UInt16 = 2
    static let maximumConcurrentStreams: UInt16 = 3
    static let initialWindowSize: UInt16 = 4
    static let maximumFrameSize: UInt16 = 5
    static let maximumHeaderListSize: UInt16 = 6
}

/// Error codes (section 7).
enum HTTP2Code {
    static let noError: UInt32 = 0
    static let protocolError: UInt32 = 1
    static let internalError: UInt32 = 2
    static let flowControlError: UInt32 = 3
    static let settingsTimeout: UInt32 = 4
    static let streamClosed: UInt32 = 5
    static let frameSizeError: UInt32 = 6
    static let refusedStream: UInt32 = 7
    static let cancel: UInt32 = 8
    static let compressionError: UInt32 = 9
    static let connectError: UInt32 = 10
    static let enhanceYourCalm: UInt32 = 11

    static func name(_ code: UInt32) -> String {
        let names = [
            "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
            "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
        ]
        return code < names.count ? names[Int(code)] : "error \(code)"
    }
}

/// The nine bytes in front of every frame (section 4.1).
struct FrameHeader: Equatable {
    static let size = 9

    var length: Int
    var type: UInt8
    var flags: UInt8
    var stream: UInt32

    init(length: Int, type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0) {
        self.length = length
        self.type = type
        self.flags = flags
        self.stream = stream
    }

    /// Reads nine bytes at `offset`, which must be there.
    init(_ bytes: RawSpan, at offset: Int = 0) {
        length = Int(bytes.integer(at: offset, 3))
        type = UInt8(bytes.integer(at: offset + 3, 1))
        flags = UInt8(bytes.integer(at: offset + 4, 1))
        stream = bytes.integer(at: offset + 5, 4) & 0x7fff_ffff
    }

    func has(_ flag: UInt8) -> Bool { flags & flag != 0 }

    /// Calls `body` with each of the nine bytes.
    @inline(__always)
    func write(_ body: (Int, UInt8) -> Void) {
        body(0, UInt8(truncatingIfNeeded: length >> 16))
        body(1, UInt8(truncatingIfNeeded: length >> 8))
        body(2, UInt8(truncatingIfNeeded: length))
        body(3, type)
        body(4, flags)
        body(5, UInt8(truncatingIfNeeded: stream >> 24))
        body(6, UInt8(truncatingIfNeeded: stream >> 16))
        body(7, UInt8(truncatingIfNeeded: stream >> 8))
        body(8, UInt8(truncatingIfNeeded: stream))
    }
}

extension RawSpan {
    /// A byte, bounds checked.
    @inline(__always)
    func byte(at offset: Int) -> UInt8 {
        precondition(offset >= 0 && offset < byteCount)
        // Checked just above; the span has no checked load of its own.
        return unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    /// A big-endian number of `count` bytes, bounds checked.
    @inline(__always)
    func integer(at offset: Int, _ count: Int) -> UInt32 {
        var value: UInt32 = 0
        for index in 0..<count { value = value << 8 | UInt32(byte(at: offset + index)) }
        return value
    }
}

extension [UInt8] {
    mutating func append(_ header: FrameHeader) { header.write { append($1) } }

    mutating func append(bigEndian value: UInt32) {
        for shift in stride(from: 24, through: 0, by: -8) { append(UInt8(truncatingIfNeeded: value >> UInt32(shift))) }
    }
}

/// A broken rule that ends the connection (section 5.4.1).
struct HTTP2Violation: Error, Equatable {
    let code: UInt32
    let reason: String

    init(_ code: UInt32, _ reason: String) {
        self.code = code
        self.reason = reason
    }
}
