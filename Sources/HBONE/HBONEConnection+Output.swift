import Glibc
import LinuxNetwork
import TLSEngine

/// From the applications to the socket.
extension HBONEConnection {
    /// Plaintext gathered for one send: sixteen full records.
    private static let plaintextPerSend = 16 * TLSSession.maximumRecordContent
    /// What one stream may take of it while others wait.
    private static let fairShare = 64 * 1024
    /// Sends before other connections get their turn.
    private static let sendsPerTurn = 4
    /// Frames of ours that may wait for a peer that does not read.
    static let maximumControl = 1 << 20

    /// Puts a stream in the queue of those that are asked for bytes.
    func enqueue(_ stream: HBONEStream) {
        guard !stream.isQueued, phase == .open else { return }
        stream.isQueued = true
        sendQueue.append(stream)
        runLater()
    }

    /// Lets waiting requests go as far as the peer allows.
    func sendWaiting() {
        guard phase == .open else { return }
        while http2.canOpenNow, http2.control.count < Self.maximumControl / 8, let stream = waiting.popFirst() {
            guard let request = stream.takeRequest() else { continue }
            stream.id = http2.open(request)
            streams[stream.id] = stream
            runLater()
        }
    }

    /// Sends what there is: first what was sealed before, then control frames, then the applications' bytes.
    func flush() {
        var turns = Self.sendsPerTurn
        while phase == .handshaking || phase == .open {
            guard !isBlocked, sendOutput() else { return }
            guard phase == .open, !http2.control.isEmpty || !sendQueue.isEmpty else { return finishIfDrained() }
            guard turns > 0 else { return runLater() }
            turns -= 1
            gather()
        }
    }

    /// Fills a buffer with control frames and DATA of the streams in turn, and seals it.
    private func gather() {
        let plaintext = loop.pool.borrow()
        defer { loop.pool.give(plaintext) }
        let limit = Self.plaintextPerSend
        var filled = 0
        takeControl(plaintext, &filled, limit)
        while phase == .open, limit - filled > FrameHeader.size, let stream = sendQueue.popFirst() {
            stream.isQueued = false
            let free = limit - filled - FrameHeader.size
            let share = sendQueue.isEmpty ? free : min(free, Self.fairShare)
            let place = UnsafeMutableRawBufferPointer(
                rebasing: plaintext[filled..<filled + FrameHeader.size + share])
            filled += stream.fill(place)
            if stream.wantsTurn { enqueue(stream) }
        }
        // Replies and resets that came about meanwhile.
        if phase == .open, http2.control.count <= limit - filled { takeControl(plaintext, &filled, limit) }
        guard phase == .open, filled > 0 else { return }
        seal(UnsafeRawBufferPointer(rebasing: plaintext[..<filled]))
    }

    private func takeControl(_ plaintext: BufferPool.Buffer, _ filled: inout Int, _ limit: Int) {
        let count = min(http2.control.count, limit - filled)
        guard count > 0 else { return }
        let room = UnsafeMutableRawBufferPointer(rebasing: plaintext[filled..<filled + count])
        http2.control.withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        filled += count
        if count < http2.control.count {
            http2.control.removeFirst(count)
        } else {
            http2.control.removeAll(keepingCapacity: count <= 512)
        }
    }

    private func seal(_ plaintext: UnsafeRawBufferPointer) {
        guard let tls else { return }
        let room = outputRoom()
        var sealed = OutputRawSpan(buffer: room, initializedCount: 0)
        do throws(TLSError) {
            let count = try tls.seal(plaintext.bytes, output: &sealed)
            precondition(count == plaintext.count, "the output buffer holds a whole send")
            outputEnd += sealed.finalize(for: room)
        } catch {
            outputEnd += sealed.finalize(for: room)
            finish(HBONEError(.tls, "TLS failed", tlsError: error), politely: false)
        }
    }

    /// Appends what is still to be said and close_notify to the output, if there is room.
    func sealLastWords() {
        guard let tls else { return }
        let words = http2.control
        http2.control = []
        let room = outputRoom()
        var sealed = OutputRawSpan(buffer: room, initializedCount: 0)
        if room.count >= TLSSession.sealedSize(words.count) + 2 * TLSSession.recordOverhead {
            do throws(TLSError) {
                _ = try tls.seal(words.span.bytes, output: &sealed)
                tls.close(output: &sealed)
            } catch {
                // A session that is broken already has said its alert; there is nothing to add.
            }
        }
        outputEnd += sealed.finalize(for: room)
    }

    // MARK: The buffer

    /// Where ciphertext to be sent is appended.
    func outputRoom() -> UnsafeMutableRawBufferPointer {
        if output == nil {
            output = loop.pool.borrow()
            outputStart = 0
            outputEnd = 0
        }
        guard let output else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        return UnsafeMutableRawBufferPointer(rebasing: output[outputEnd...])
    }

    func releaseOutput() {
        if let output { loop.pool.give(output) }
        output = nil
        outputStart = 0
        outputEnd = 0
    }

    /// Sends what was sealed; true when nothing is left.
    func sendOutput() -> Bool {
        guard let base = output?.baseAddress else { return true }
        while outputStart < outputEnd {
            let sent = send(descriptor, base + outputStart, outputEnd - outputStart, CInt(MSG_NOSIGNAL))
            if sent > 0 {
                outputStart += sent
            } else if sent < 0, errno == EINTR {
                continue
            } else if sent < 0, errno == EAGAIN {
                isBlocked = true
                return false
            } else {
                let error = SystemError("send")
                outputStart = outputEnd
                if phase == .lingering {
                    inputEnded = true
                } else {
                    lost(HBONEError(.connectionLost, "the tunnel connection broke", systemError: error))
                }
                return false
            }
        }
        releaseOutput()
        return true
    }
}
