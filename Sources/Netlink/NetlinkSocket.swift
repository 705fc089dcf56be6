import CMnl
import Glibc

/// One netlink socket, bound to the network namespace the calling thread is in when it is opened.
///
/// Requests are answered by the kernel while they are sent, so a wait can only end in the answer; it is bounded all
/// the same (5 seconds). A socket belongs to one thread at a time: it is neither copyable nor sendable.
public struct NetlinkSocket: ~Copyable {
    /// The netlink families in use here.
    public enum Bus: CInt, Sendable { case route = 0, socketDiagnostics = 4, netfilter = 12 }

    private let handle: OpaquePointer
    private let portID: UInt32
    private var sequence: UInt32 = 0
    private var buffer: [UInt8]

    /// Opens and binds a socket in the current network namespace.
    public init(_ bus: Bus) throws(NetlinkError) {
        guard let handle = mnl_socket_open2(bus.rawValue, CInt(SOCK_CLOEXEC.rawValue)) else {
            throw NetlinkError(operation: "open netlink socket", code: errno)
        }
        guard mnl_socket_bind(handle, 0, 0) == 0 else {
            let code = errno
            mnl_socket_close(handle)
            throw NetlinkError(operation: "bind netlink socket", code: code)
        }
        self.handle = handle
        portID = mnl_socket_get_portid(handle)
        buffer = Array(repeating: 0, count: 64 * 1024)
        var yes: CInt = 1
        let size = socklen_t(MemoryLayout<CInt>.size)
        // Extended acknowledgements came with Linux 4.12 and strict dumps with 4.20: without them errors say less and
        // dumps list more, and both are dealt with, so a refusal here is no error.
        _ = mnl_socket_setsockopt(handle, Option.extendedAck, &yes, size)
        _ = mnl_socket_setsockopt(handle, Option.shortAck, &yes, size)
        if bus == .route { _ = mnl_socket_setsockopt(handle, Option.strictCheck, &yes, size) }
        let descriptor = mnl_socket_get_fd(handle)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        // Answers to one large batch (an acknowledgement or error each) must all fit.
        var room: CInt = 1 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &room, size)
    }

    deinit { mnl_socket_close(handle) }

    private enum Option {
        static let shortAck: CInt = 10
        static let extendedAck: CInt = 11
        static let strictCheck: CInt = 12
    }

    /// One message to the kernel: type, flags beside `NLM_F_REQUEST`, and body.
    struct Message: Sendable {
        var type: UInt16
        var flags: UInt16 = 0
        var body: [UInt8]
    }

    enum Flag {
        static let request: UInt16 = 0x1
        static let ack: UInt16 = 0x4
        static let dumpInterrupted: UInt16 = 0x10
        static let replace: UInt16 = 0x100
        static let dump: UInt16 = 0x300
        static let exclusive: UInt16 = 0x200
        static let create: UInt16 = 0x400
        static let append: UInt16 = 0x800
        /// In an acknowledgement: the request's payload is left out, so attributes follow the header at once.
        static let capped: UInt16 = 0x100
        static let ackAttributes: UInt16 = 0x200
    }

    /// Sends one request and waits for its acknowledgement.
    mutating func request(_ message: Message, _ operation: String) throws(NetlinkError) {
        var message = message
        message.flags |= Flag.ack
        let last = try send([message], operation)
        try receive(operation) { (sequence, type, flags, body) throws(NetlinkError) in
            guard sequence == last else { return false }
            return try Self.acknowledged(type: type, flags: flags, body: body, operation)
        }
    }

    /// Sends one request that is answered by one message (or an error) and returns the answer's body.
    mutating func ask(_ message: Message, _ operation: String) throws(NetlinkError) -> [UInt8] {
        let last = try send([message], operation)
        var answer: [UInt8] = []
        try receive(operation) { (sequence, type, flags, body) throws(NetlinkError) in
            guard sequence == last else { return false }
            if type == MessageType.error {
                return try Self.acknowledged(type: type, flags: flags, body: body, operation)
            }
            answer = Array(body)
            return true
        }
        return answer
    }

    /// Sends several messages as one datagram, which nf_tables takes as one transaction, and waits until the kernel
    /// has acknowledged the last one asked to be. The first error is thrown; its index among `messages` tells which.
    mutating func transaction(
        _ messages: [Message], name: (Int) -> String
    ) throws(NetlinkError) {
        var messages = messages
        guard messages.count > 2 else { return }
        let final = messages.count - 2
        messages[final].flags |= Flag.ack
        let last = try send(messages, "send nf_tables batch")
        let first = last &- UInt32(messages.count - 1)
        var failure: NetlinkError?
        try receive("commit nf_tables batch") { (sequence, type, flags, body) throws(NetlinkError) in
            let index = Int(sequence &- first)
            guard index >= 0, index < messages.count, type == MessageType.error else { return false }
            do throws(NetlinkError) {
                _ = try Self.acknowledged(type: type, flags: flags, body: body, name(index))
            } catch {
                failure = failure ?? error
                // An error on the opening message is about the transaction as a whole, and nothing follows.
                if index == 0 { return true }
            }
            return index == final
        }
        if let failure { throw failure }
    }

    /// Asks for a dump and hands every object's body to `each`. A dump that changed while it was read is read again,
    /// a few times with pauses that grow; `reset` tells the receiver to forget what it has.
    mutating func dump(
        _ message: Message, _ operation: String, reset: () -> Void,
        each: (_ type: UInt16, _ body: ArraySlice<UInt8>) -> Void
    ) throws(NetlinkError) {
        var message = message
        message.flags |= Flag.dump
        for attempt in 0..<Self.mostAttempts {
            if attempt > 0 { Self.pause(before: attempt) }
            reset()
            var interrupted = false
            let last = try send([message], operation)
            try receive(operation) { (sequence, type, flags, body) throws(NetlinkError) in
                guard sequence == last else { return false }
                if flags & Flag.dumpInterrupted != 0 { interrupted = true }
                switch type {
                case MessageType.done:
                    if let code = Int32(native: body), code < 0 {
                        throw NetlinkError(operation: operation, code: -code)
                    }
                    return true
                case MessageType.error:
                    return try Self.acknowledged(type: type, flags: flags, body: body, operation)
                default:
                    each(type, body)
                    return false
                }
            }
            if !interrupted { return }
        }
        throw NetlinkError(
            operation: operation, code: EINTR, detail: "it changed under each of \(Self.mostAttempts) readings")
    }

    /// Enough for somebody else who commits without a pause, under which every third reading has to be made again. With the
    /// pauses 200 ms at most.
    static let mostAttempts = 16

    /// Waits a little before the next attempt at what others are busy with: about 1 ms, then twice as long each time up to
    /// 16 ms, with jitter.
    static func pause(before attempt: Int) {
        let longest = 1_000 << Swift.min(attempt - 1, 4)
        usleep(useconds_t(Int.random(in: (longest / 2)...longest)))
    }

    private enum MessageType {
        static let error: UInt16 = 2
        static let done: UInt16 = 3
    }

    /// Sends the messages as one datagram; returns the sequence number of the last.
    private mutating func send(_ messages: [Message], _ operation: String) throws(NetlinkError) -> UInt32 {
        var datagram: [UInt8] = []
        for message in messages {
            sequence &+= 1
            datagram += UInt32(truncatingIfNeeded: message.body.count + 16).nativeBytes
            datagram += message.type.nativeBytes
            datagram += (message.flags | Flag.request).nativeBytes
            datagram += sequence.nativeBytes
            datagram += UInt32(0).nativeBytes
            datagram += message.body
            while datagram.count % 4 != 0 { datagram.append(0) }
        }
        if datagram.count > 128 * 1024 {
            var room = CInt(truncatingIfNeeded: datagram.count * 2)
            // SO_SNDBUFFORCE passes the system's limit; without the privilege the send below says what is wrong.
            setsockopt(
                mnl_socket_get_fd(handle), SOL_SOCKET, SO_SNDBUFFORCE, &room, socklen_t(MemoryLayout<CInt>.size))
        }
        let sent = datagram.withUnsafeBytes { mnl_socket_sendto(handle, $0.baseAddress, $0.count) }
        guard sent == datagram.count else { throw NetlinkError(operation: operation, code: errno) }
        return sequence
    }

    /// Reads messages until `take` says it has the last one.
    private mutating func receive(
        _ operation: String,
        take: (UInt32, UInt16, UInt16, ArraySlice<UInt8>) throws(NetlinkError) -> Bool
    ) throws(NetlinkError) {
        while true {
            let count = buffer.withUnsafeMutableBytes { mnl_socket_recvfrom(handle, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw NetlinkError(operation: operation, code: errno == EAGAIN ? ETIMEDOUT : errno)
            }
            var rest = buffer[0..<count]
            var finished = false
            while let length = UInt32(native: rest), length >= 16, Int(length) <= rest.count,
                let type = UInt16(native: rest.dropFirst(4)), let flags = UInt16(native: rest.dropFirst(6)),
                let sequence = UInt32(native: rest.dropFirst(8)), let port = UInt32(native: rest.dropFirst(12))
            {
                let body = rest[(rest.startIndex + 16)..<(rest.startIndex + Int(length))]
                rest = rest.dropFirst((Int(length) + 3) & ~3)
                if port != 0, port != portID { continue }
                if try take(sequence, type, flags, body) { finished = true }
            }
            if finished { return }
        }
    }

    /// `true` for an acknowledgement, an error for a refusal.
    private static func acknowledged(
        type: UInt16, flags: UInt16, body: ArraySlice<UInt8>, _ operation: String
    ) throws(NetlinkError) -> Bool {
        guard type == MessageType.error, let code = Int32(native: body) else { return false }
        if code == 0 { return true }
        var detail: String?
        if flags & Flag.ackAttributes != 0, let length = UInt32(native: body.dropFirst(4)) {
            // After the code comes the refused message: its header alone, or all of it.
            let refused = flags & Flag.capped != 0 ? 16 : (Int(length) + 3) & ~3
            detail = Attributes(body.dropFirst(4 + refused)).string(1)
        }
        throw NetlinkError(operation: operation, code: -code, detail: detail)
    }
}
