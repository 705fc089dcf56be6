import CNIOBoringSSL
import Mesh

/// The TLS side of one connection, without its socket: bytes go in from and out to buffers that the caller lends for
/// the moment of the call.
///
/// Confined to one thread. After the handshake it holds two keys and nothing else; ``receive(_:consumed:plaintext:output:)``
/// and ``seal(_:output:)`` then move bytes from buffer to buffer without a copy between.
public final class TLSSession {
    public enum State: Sendable {
        case handshaking, established
        /// The peer sent close_notify: nothing more will come from it.
        case peerClosed
        /// Broken; every call throws.
        case failed
    }

    /// Why ``receive(_:consumed:plaintext:output:)`` stopped.
    public enum Progress: Sendable {
        /// All whole records are taken; what is left is the beginning of one.
        case needsInput
        /// A buffer is full: make room and call again.
        case needsRoom
        /// The peer sent close_notify.
        case peerClosed
    }

    /// Bytes that sealing adds to each record of at most ``maximumRecordContent`` bytes.
    public static let recordOverhead = RecordProtection.overhead
    /// Content bytes of a full record.
    public static let maximumRecordContent = RecordProtection.maximumContent
    /// The largest output of a handshake step, an alert or a close that a caller should make room for.
    public static let handshakeRoom = 64 * 1024
    /// After so many records a key has done its part (RFC 8446 section 5.5 allows 2^24.5).
    private static let recordsPerKey: UInt64 = 1 << 23

    public private(set) var state = State.handshaking
    /// The peer's identity by the rule of our role: on a server the first one in our trust domain, on a client the
    /// expected one that was found. Nil before the handshake.
    public var peerIdentity: SPIFFEIdentity? { peer.identity }
    /// All identities in the peer's certificate.
    public var peerIdentities: [SPIFFEIdentity] { peer.identities }
    public let role: TLSContext.Role
    /// The certificates of the peer's chain, leaf first, without the trust anchor; empty when nothing is ever revoked.
    public var peerChain: [CertificateKey] { peer.chain.keys }
    /// Of the revocation lists that the chain was held against: ``RevocationStore/generation``.
    public var revocationGeneration: UInt64 { peer.chain.generation }

    private var peer = VerifiedPeer()
    private var suite: CipherSuite?
    private var group: UInt16 = 0
    private var handshake: Handshake?
    private var reader: RecordProtection?
    private var writer: RecordProtection?
    private var postHandshake: PostHandshakeReader
    private var emptyRecords = 0
    private var owesKeyUpdate = false
    private var closeSent = false
    private var kept = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    /// A session that has sent and received nothing.
    /// - Parameter expectedIdentities: On a client, one of these must be in the server's certificate; an empty list
    ///   accepts nobody. Without meaning on a server.
    public init(_ context: TLSContext, expectedIdentities: [SPIFFEIdentity] = []) throws(TLSError) {
        role = context.role
        postHandshake = PostHandshakeReader(role)
        handshake = try Handshake(context, expected: expectedIdentities)
    }

    deinit { kept.deallocate() }

    /// The suite in use, by its standard name; empty before the handshake is over.
    public var cipherName: String { suite?.name ?? "" }

    /// The key exchange in use, such as `X25519MLKEM768`; empty before the handshake is over.
    public var groupName: String { SSL_get_group_name(group).map { String(cString: $0) } ?? "" }

    // MARK: Input

    /// Takes ciphertext: goes on with the handshake, then opens records.
    /// - Parameters:
    ///   - input: What came from the transport.
    ///   - consumed: Set to how many bytes of it are done with; pass the rest again, with more behind it.
    ///   - plaintext: Content is appended here. Room as large as the input always suffices.
    ///   - output: What must be sent in answer is appended here, also before an error is thrown (the alert).
    public func receive(
        _ input: RawSpan, consumed: inout Int, plaintext: inout OutputRawSpan, output: inout OutputRawSpan
    ) throws(TLSError) -> Progress {
        consumed = 0
        if state == .handshaking {
            consumed = try stepHandshake(input, output: &output)
            guard state == .established else { return output.freeCapacity == 0 ? .needsRoom : .needsInput }
        }
        switch state {
        case .established: break
        case .peerClosed:
            consumed = input.byteCount
            return .peerClosed
        case .handshaking, .failed: throw TLSError(.internalFailure, "the TLS session is over")
        }
        do throws(TLSError) {
            return try openRecords(input, &consumed, &plaintext)
        } catch {
            fail(error, &output)
            throw error
        }
    }

    private func openRecords(
        _ input: RawSpan, _ consumed: inout Int, _ plaintext: inout OutputRawSpan
    ) throws(TLSError) -> Progress {
        let start = consumed
        let result = input.withUnsafeBytes { bytes -> (Int, Result<Progress, TLSError>) in
            var position = start
            do throws(TLSError) {
                let progress = try plaintext.withUnsafeMutableBytes { (target, filled) throws(TLSError) -> Progress in
                    while state == .established {
                        guard let length = try Self.wholeRecord(bytes, at: position) else { return .needsInput }
                        let room = UnsafeMutableRawBufferPointer(rebasing: target[filled...])
                        guard room.count >= length - 21 else { return .needsRoom }
                        let record = UnsafeRawBufferPointer(rebasing: bytes[position..<position + length])
                        position += length
                        filled += try openRecord(record, into: room)
                    }
                    return .peerClosed
                }
                return (position, .success(progress))
            } catch {
                return (position, .failure(error))
            }
        }
        consumed = result.0
        return try result.1.get()
    }

    /// The length of the record that begins at `position`, if all of it is there.
    private static func wholeRecord(_ bytes: UnsafeRawBufferPointer, at position: Int) throws(TLSError) -> Int? {
        guard bytes.count - position >= 5 else { return nil }
        guard bytes[position] == RecordProtection.ContentType.applicationData, bytes[position + 1] == 3 else {
            throw TLSError(
                .protocolViolation, "peer sent a record that is not protected", alert: Alert.unexpectedMessage)
        }
        let body = Int(bytes[position + 3]) << 8 | Int(bytes[position + 4])
        guard body <= RecordProtection.maximumBody else {
            throw TLSError(.protocolViolation, "peer sent a record of \(body) bytes", alert: Alert.recordOverflow)
        }
        guard body >= 17 else {
            throw TLSError(.protocolViolation, "peer sent a record of \(body) bytes", alert: Alert.badRecordMAC)
        }
        return bytes.count - position >= 5 + body ? 5 + body : nil
    }

    /// Opens a record and acts on it; returns how many bytes of application data it added to `room`.
    private func openRecord(
        _ record: UnsafeRawBufferPointer, into room: UnsafeMutableRawBufferPointer
    ) throws(TLSError) -> Int {
        guard let (length, type) = reader?.open(record, into: room) else {
            throw TLSError(.protocolViolation, "a record was altered on its way", alert: Alert.badRecordMAC)
        }
        // Content, type and padding together (RFC 8446 section 5.4).
        guard record.count - 5 - 16 <= RecordProtection.maximumContent + 1 else {
            throw TLSError(.protocolViolation, "peer sent too long a record", alert: Alert.recordOverflow)
        }
        guard !postHandshake.isInsideMessage || type == RecordProtection.ContentType.handshake else {
            throw TLSError(
                .protocolViolation, "peer interrupted a handshake message", alert: Alert.unexpectedMessage)
        }
        switch type {
        case RecordProtection.ContentType.applicationData:
            guard length > 0 else {
                try countEmptyRecord()
                return 0
            }
            emptyRecords = 0
            postHandshake.sawApplicationData()
            return length
        case RecordProtection.ContentType.alert:
            try receiveAlert(UnsafeRawBufferPointer(rebasing: room[..<length]))
            return 0
        case RecordProtection.ContentType.handshake:
            guard length > 0 else {
                throw TLSError(
                    .protocolViolation, "peer sent an empty handshake record", alert: Alert.unexpectedMessage)
            }
            try countEmptyRecord()
            let message = try postHandshake.read(UnsafeRawBufferPointer(rebasing: room[..<length]))
            if case .keyUpdate(let answerWanted) = message {
                if answerWanted { owesKeyUpdate = true }
                guard reader?.update() == true else { throw TLSError(.internalFailure, "no memory for new keys") }
            }
            return 0
        default:
            throw TLSError(
                .protocolViolation, "peer sent a record of type \(type)", alert: Alert.unexpectedMessage)
        }
    }

    /// Records without application data cost the sender little and us a decryption each.
    private func countEmptyRecord() throws(TLSError) {
        emptyRecords += 1
        guard emptyRecords <= 64 else {
            throw TLSError(.protocolViolation, "peer sends empty records", alert: Alert.unexpectedMessage)
        }
    }

    private func receiveAlert(_ content: UnsafeRawBufferPointer) throws(TLSError) {
        guard content.count == 2 else {
            throw TLSError(.protocolViolation, "peer sent a malformed alert", alert: Alert.decodeError)
        }
        switch content[1] {
        case Alert.closeNotify: state = .peerClosed
        case Alert.userCanceled: try countEmptyRecord()
        default: throw Alert.received(content[1])
        }
    }

    /// What the end of the transport means: nil after close_notify.
    public func transportEnded() -> TLSError? {
        switch state {
        case .peerClosed, .failed: return nil
        case .established: return TLSError(.truncated, "peer closed the connection without close_notify")
        case .handshaking: return TLSError(.truncated, "peer closed the connection during the TLS handshake")
        }
    }

    // MARK: Kept input

    /// Bytes held for the next call: the beginning of a record.
    public var keptCount: Int { kept.count }

    /// Keeps what `receive` left over, at most one record, while the caller gives its buffer back.
    public func keep(_ rest: RawSpan) {
        kept.deallocate()
        kept = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        guard rest.byteCount > 0 else { return }
        kept = .allocate(byteCount: rest.byteCount, alignment: 1)
        rest.withUnsafeBytes { kept.copyMemory(from: $0) }
    }

    /// Puts what was kept at the front of a fresh buffer. The buffer must have room for ``keptCount`` bytes.
    public func restore(into buffer: inout OutputRawSpan) {
        guard kept.count > 0 else { return }
        buffer.withUnsafeMutableBytes { target, filled in
            precondition(target.count - filled >= kept.count, "no room for the beginning of a record")
            UnsafeMutableRawBufferPointer(rebasing: target[filled...]).copyMemory(from: UnsafeRawBufferPointer(kept))
            filled += kept.count
        }
        kept.deallocate()
        kept = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    // MARK: Output

    /// How many bytes of plaintext can be sealed into `room` bytes.
    public static func contentFitting(_ room: Int) -> Int {
        let full = maximumRecordContent + recordOverhead
        let rest = room % full
        return room / full * maximumRecordContent + max(rest - recordOverhead, 0)
    }

    /// How many bytes `count` bytes of plaintext become.
    public static func sealedSize(_ count: Int) -> Int {
        count + (count + maximumRecordContent - 1) / maximumRecordContent * recordOverhead
    }

    /// Appends the plaintext as records to `output`, as much as fits.
    /// - Returns: How many bytes of the plaintext are sealed.
    public func seal(_ plaintext: RawSpan, output: inout OutputRawSpan) throws(TLSError) -> Int {
        guard state == .established || state == .peerClosed, !closeSent else {
            throw TLSError(.internalFailure, "the TLS session cannot send")
        }
        try updateKeyIfDue(&output)
        let sealed = plaintext.withUnsafeBytes { source -> Int? in
            output.withUnsafeMutableBytes { target, filled -> Int? in
                var position = 0
                while position < source.count {
                    let room = target.count - filled - Self.recordOverhead
                    let length = min(source.count - position, Self.maximumRecordContent, room)
                    guard length > 0, let base = target.baseAddress else { break }
                    let content = UnsafeRawBufferPointer(rebasing: source[position..<position + length])
                    guard
                        writer?.seal(RecordProtection.ContentType.applicationData, content, to: base + filled) == true
                    else { return nil }
                    position += length
                    filled += length + Self.recordOverhead
                }
                return position
            }
        }
        guard let sealed else { throw TLSError(.internalFailure, "a record could not be sealed") }
        return sealed
    }

    private func updateKeyIfDue(_ output: inout OutputRawSpan) throws(TLSError) {
        guard owesKeyUpdate || (writer?.sequence ?? 0) >= Self.recordsPerKey else { return }
        let message: [UInt8] = [24, 0, 0, 1, 0]
        guard append(RecordProtection.ContentType.handshake, message, to: &output) else { return }
        owesKeyUpdate = false
        guard writer?.update() == true else { throw TLSError(.internalFailure, "no memory for new keys") }
    }

    private func append(_ type: UInt8, _ content: [UInt8], to output: inout OutputRawSpan) -> Bool {
        output.withUnsafeMutableBytes { target, filled in
            guard target.count - filled >= content.count + Self.recordOverhead, let base = target.baseAddress,
                content.withUnsafeBytes({ writer?.seal(type, $0, to: base + filled) }) == true
            else { return false }
            filled += content.count + Self.recordOverhead
            return true
        }
    }

    /// Appends a record of any type and content, which only a test wants.
    func appendRecord(_ type: UInt8, _ content: [UInt8], _ output: inout OutputRawSpan) -> Bool {
        append(type, content, to: &output)
    }

    /// Appends close_notify, once; nothing can be sealed afterwards. Does nothing before the handshake is over.
    public func close(output: inout OutputRawSpan) {
        guard state == .established || state == .peerClosed, !closeSent else { return }
        closeSent = true
        _ = append(RecordProtection.ContentType.alert, [1, Alert.closeNotify], to: &output)
    }

    private func fail(_ error: TLSError, _ output: inout OutputRawSpan) {
        if let alert = error.alert, error.code != .peerAlert, !closeSent {
            _ = append(RecordProtection.ContentType.alert, [2, alert], to: &output)
        }
        closeSent = true
        state = .failed
    }

    // MARK: Handshake

    /// Goes on with the handshake; returns how much of the input it took.
    private func stepHandshake(_ input: RawSpan, output: inout OutputRawSpan) throws(TLSError) -> Int {
        guard let handshake else { throw TLSError(.internalFailure, "the TLS session is over") }
        var consumed = 0
        do throws(TLSError) {
            if try handshake.step(input, consumed: &consumed, output: &output) { try finish(handshake) }
        } catch {
            state = .failed
            self.handshake = nil
            throw error
        }
        return consumed
    }

    private func finish(_ handshake: Handshake) throws(TLSError) {
        let number = SSL_get_current_cipher(handshake.ssl).map { SSL_CIPHER_get_protocol_id($0) } ?? 0
        guard let suite = CipherSuite(rawValue: number), handshake.takeKeys(suite, &reader, &writer) else {
            throw TLSError(.internalFailure, "the TLS handshake ended without keys")
        }
        group = SSL_get_group_id(handshake.ssl)
        self.suite = suite
        peer = handshake.verified
        state = .established
        self.handshake = nil
    }
}
