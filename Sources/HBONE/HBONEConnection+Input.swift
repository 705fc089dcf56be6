import Glibc
import LinuxNetwork
import TLSEngine

/// From the socket to the applications.
extension HBONEConnection {
    /// Reads of up to 256 KiB before other connections get their turn.
    private static let readsPerTurn = 2

    /// Reads, opens and hands out what the socket has.
    func readInput() {
        guard let tls = tls ?? makeSession() else { return }
        let input = loop.pool.borrow()
        let plaintext = loop.pool.borrow()
        defer {
            loop.pool.give(input)
            loop.pool.give(plaintext)
        }
        var filled = tls.keptCount
        if filled > 0 {
            var front = OutputRawSpan(
                buffer: UnsafeMutableRawBufferPointer(rebasing: input[..<filled]), initializedCount: 0)
            tls.restore(into: &front)
        }
        var turns = Self.readsPerTurn
        if phase == .handshaking, !readable {
            // A client's first step needs no input.
            filled = open(input, filled, plaintext, tls)
        }
        while readable, phase == .handshaking || phase == .open {
            guard turns > 0 else {
                runLater()
                break
            }
            turns -= 1
            let wanted = input.count - filled
            let got = recv(descriptor, input.baseAddress! + filled, wanted, 0)
            if got > 0 {
                if got < wanted, !sawHangup { readable = false }
                filled = open(input, filled + got, plaintext, tls)
            } else if got == 0 {
                readable = false
                transportEnded(tls)
            } else if errno == EAGAIN {
                readable = false
            } else if errno != EINTR {
                readable = false
                lost(HBONEError(.connectionLost, "the tunnel connection broke", systemError: SystemError("receive")))
            }
        }
        guard phase == .handshaking || phase == .open else { return }
        tls.keep(UnsafeRawBufferPointer(rebasing: input[..<filled]).bytes)
        if !http2.control.isEmpty || outputEnd > outputStart { runLater() }
    }

    private func makeSession() -> TLSSession? {
        guard let context else { return nil }
        self.context = nil
        do throws(TLSError) {
            let session = try TLSSession(context, expectedIdentities: expectedIdentities)
            tls = session
            return session
        } catch {
            finish(HBONEError(.tls, "no TLS session could be made", tlsError: error), politely: false)
            return nil
        }
    }

    private func transportEnded(_ tls: TLSSession) {
        inputEnded = true
        if phase == .handshaking {
            lost(HBONEError(.tls, "the TLS handshake failed", tlsError: tls.transportEnded()))
        } else if waiting.isEmpty, streams.values.allSatisfy(\.isDelivering) {
            lost(nil)
        } else {
            lost(HBONEError(.connectionLost, "the tunnel connection ended under open streams"))
        }
    }

    /// Opens the first `count` bytes of the input buffer and acts on them; what is left over moves to its front.
    /// - Returns: How much that is.
    private func open(
        _ input: BufferPool.Buffer, _ count: Int, _ plaintext: BufferPool.Buffer, _ tls: TLSSession
    ) -> Int {
        var position = 0
        while phase == .handshaking || phase == .open {
            let ciphertext = UnsafeRawBufferPointer(rebasing: input[position..<count]).bytes
            var opened = OutputRawSpan(buffer: plaintext, initializedCount: 0)
            let room = outputRoom()
            var answer = OutputRawSpan(buffer: room, initializedCount: 0)
            var consumed = 0
            do throws(TLSError) {
                let progress = try tls.receive(
                    ciphertext, consumed: &consumed, plaintext: &opened, output: &answer)
                outputEnd += answer.finalize(for: room)
                position += consumed
                let length = opened.finalize(for: plaintext)
                if phase == .handshaking, tls.state != .handshaking { established() }
                if phase == .open, length > 0 {
                    handOut(UnsafeRawBufferPointer(rebasing: plaintext[..<length]))
                }
                if progress == .needsRoom, consumed > 0 || length > 0 { continue }
                if progress == .peerClosed, phase == .open { transportEnded(tls) }
                break
            } catch {
                outputEnd += answer.finalize(for: room)
                finish(
                    HBONEError(.tls, phase == .open ? "TLS failed" : "the TLS handshake failed", tlsError: error),
                    politely: true)
                break
            }
        }
        if outputEnd == outputStart { releaseOutput() }
        guard position > 0 else { return count }
        let rest = count - position
        if rest > 0, let base = input.baseAddress { base.copyMemory(from: base + position, byteCount: rest) }
        return rest
    }

    /// Reads frames and acts on them. DATA for one stream that lies in several frames goes out in one call.
    private func handOut(_ plaintext: UnsafeRawBufferPointer) {
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: ByteQueue.maximumPieces) { vectors in
            var position = 0
            var used = 0
            var receiver: HBONEStream?
            func deliver(isLast: Bool = false) {
                if let receiver, used > 0 {
                    receiver.receive(UnsafeMutableBufferPointer(rebasing: vectors[..<used]), isLast: isLast)
                }
                receiver = nil
                used = 0
            }
            do throws(HTTP2Violation) {
                while phase == .open, let event = try http2.next(plaintext.bytes, &position) {
                    guard case .data(let id, let range, let end) = event else {
                        deliver()
                        handle(event)
                        continue
                    }
                    let stream = streams[id]
                    if stream !== receiver || used == vectors.count { deliver() }
                    guard let stream else {
                        // Its owner has given it up; the bytes are nobody's.
                        http2.consumed(id, range.count)
                        continue
                    }
                    receiver = stream
                    if !range.isEmpty {
                        let bytes = UnsafeRawBufferPointer(rebasing: plaintext[range])
                        vectors[used] = iovec(
                            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
                        used += 1
                    }
                    if end {
                        deliver(isLast: true)
                        stream.receiveEnd()
                    }
                }
                deliver()
                guard http2.control.count <= Self.maximumControl else {
                    throw HTTP2Violation(HTTP2Code.enhanceYourCalm, "the peer asks much and reads nothing")
                }
            } catch {
                deliver()
                fail(error)
            }
        }
    }

    private func handle(_ event: HTTP2Connection.Event) {
        switch event {
        case .request(let id, let request, _):
            guard let request else {
                http2.reply(id, ConnectReply(status: 400), end: true)
                http2.reset(id, HTTP2Code.noError)
                return
            }
            let stream = HBONEStream(self, id: id)
            stream.receivedEnd = http2.streams[id]?.receivedEnd ?? true
            streams[id] = stream
            delegate?.connection(self, received: request, on: stream)
        case .reply(let id, let reply, let end): streams[id]?.receive(reply, end: end)
        case .data: break
        case .reset(let id, let code): streams[id]?.peerReset(code)
        case .failed(let id, let violation):
            streams[id]?.connectionEnded(
                HBONEError(
                    .protocolError, "the peer broke HTTP/2: \(violation.reason)", http2Code: violation.code))
        case .windowOpened(let id):
            if id != 0 {
                streams[id]?.windowOpened()
            } else {
                for stream in streams.values { stream.windowOpened() }
            }
        case .settings:
            if !isPeerReady {
                isPeerReady = true
                restartTimer(settings.pingInterval, Timer.ping)
            }
            // A changed initial window may have opened any of them.
            for stream in streams.values { stream.windowOpened() }
            sendWaiting()
            delegate?.connectionCapacityChanged(self)
        case .pong(let opaque): pong(opaque)
        case .goAway(let last, let code, let debug): receiveGoAway(last, code, debug)
        }
    }

    private func receiveGoAway(_ last: UInt32, _ code: UInt32, _ debug: String) {
        let text = debug.isEmpty ? "" : ", \(debug)"
        let error =
            code == HTTP2Code.noError
            ? HBONEError(.goingAway, "the peer takes no new streams", http2Code: code)
            : HBONEError(.peerError, "the peer ended the connection: \(HTTP2Code.name(code))\(text)", http2Code: code)
        peerGoAway = error
        endWaiting(error)
        if role == .client {
            // The peer has not touched these; they may go elsewhere.
            for (id, stream) in streams where id > last { stream.connectionEnded(error) }
        }
        delegate?.connectionCapacityChanged(self)
        runLater()
    }
}
