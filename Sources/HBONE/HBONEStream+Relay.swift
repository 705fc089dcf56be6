import Glibc
import LinuxNetwork

/// The way of the bytes between the application's socket and the tunnel.
extension HBONEStream: EventHandler {
    public func ready(_ events: ReadyEvents) {
        guard !isEnded else { return }
        if !events.isDisjoint(with: [.readHangup, .hangup, .error]) { appHungUp = true }
        if !events.isDisjoint(with: [.readable, .readHangup, .hangup, .error]) {
            appReadable = true
            if wantsTurn, !isWindowBlocked { connection?.enqueue(self) }
        }
        // Nobody will read from it, so nobody else would find out.
        if events.contains(.error), appEnded || isWindowBlocked { return appBroke() }
        if !events.isDisjoint(with: [.writable, .hangup, .error]) {
            appWritable = true
            writeBacklog()
        }
    }

    /// Whether there may be something to read from the application and somewhere to put it.
    var wantsTurn: Bool { appReadable && !appEnded && !isEnded && descriptor >= 0 && !isWindowBlocked }

    /// After ``relay(with:registration:meter:)``: what had gathered before.
    func lookAgain() {
        guard !isEnded else { return }
        if let relayError {
            if let connection { resetPeer(connection) }
            return end(
                HBONEError(.applicationFailed, "the application's socket cannot be used", systemError: relayError))
        }
        writeBacklog()
    }

    // MARK: To the tunnel

    /// Reads from the application behind room for a frame header, and makes a DATA frame of it.
    /// - Returns: The length of the frame; 0 when there is nothing to send.
    func fill(_ place: UnsafeMutableRawBufferPointer) -> Int {
        guard wantsTurn, let connection, let base = place.baseAddress else { return 0 }
        let room = min(place.count - FrameHeader.size, connection.http2.sendRoom(id))
        guard room > 0 else {
            isWindowBlocked = true
            return 0
        }
        var got = 0
        var ended = false
        while got < room {
            let count = recv(descriptor, base + FrameHeader.size + got, room - got, 0)
            if count > 0 {
                got += count
                // A short read has emptied the socket, unless the end waits behind it.
                if got < room, !appHungUp {
                    appReadable = false
                    break
                }
            } else if count == 0 {
                ended = true
                readEnd = true
                break
            } else if errno == EAGAIN {
                appReadable = false
                // Empty and not at its end: there was no hang-up yet, and an edge will tell of one.
                appHungUp = false
                break
            } else if errno != EINTR {
                appBroke(SystemError("receive"))
                return 0
            }
        }
        guard got > 0 || ended else { return 0 }
        let header = connection.http2.data(id, got, end: ended)
        header.write { base.storeBytes(of: $1, toByteOffset: $0, as: UInt8.self) }
        if got > 0 {
            bytesToTunnel += UInt64(got)
            meter?.toTunnel(got)
        }
        if ended {
            appEnded = true
            appReadable = false
            endIfComplete()
        }
        return FrameHeader.size + got
    }

    func windowOpened() {
        guard isWindowBlocked else { return }
        isWindowBlocked = false
        if wantsTurn { connection?.enqueue(self) }
    }

    // MARK: From the tunnel

    /// Takes payload: to the socket what it will have, the rest to the backlog.
    /// - Parameter isLast: Whether ``receiveEnd()`` follows at once: the FIN then goes in the last packet of the payload
    ///   instead of in one of its own, and the application is woken once for both.
    func receive(_ vectors: UnsafeMutableBufferPointer<iovec>, isLast: Bool) {
        var total = 0
        for vector in vectors { total += vector.iov_len }
        guard !isEnded, let connection else { return }
        var taken = 0
        if descriptor >= 0, backlog.isEmpty, appWritable {
            taken = write(vectors, more: isLast)
            if taken < 0 {
                // The stream ended on the way, so this is nobody's any more.
                connection.http2.consumed(id, total)
                return
            }
            account(taken, connection)
            if taken == total { return }
        }
        var skip = taken
        for vector in vectors {
            guard skip < vector.iov_len else {
                skip -= vector.iov_len
                continue
            }
            backlog.append(
                UnsafeRawBufferPointer(start: vector.iov_base.map { $0 + skip }, count: vector.iov_len - skip))
            skip = 0
        }
    }

    /// One write; -1 after an error that ended the stream.
    /// - Parameter more: Whether a shutdown or close follows before the round is over, which sends what was held back.
    private func write(_ vectors: UnsafeMutableBufferPointer<iovec>, more: Bool) -> Int {
        var message = msghdr()
        message.msg_iov = vectors.baseAddress
        message.msg_iovlen = vectors.count
        var total = 0
        for vector in vectors { total += vector.iov_len }
        while true {
            let sent = sendmsg(descriptor, &message, CInt(MSG_NOSIGNAL) | (more ? CInt(MSG_MORE) : 0))
            if sent >= 0 {
                if sent < total { appWritable = false }
                return sent
            }
            if errno == EAGAIN {
                appWritable = false
                return 0
            }
            guard errno == EINTR else {
                appBroke(SystemError("send"))
                return -1
            }
        }
    }

    private func account(_ count: Int, _ connection: HBONEConnection) {
        guard count > 0 else { return }
        bytesFromTunnel += UInt64(count)
        connection.http2.consumed(id, count)
        meter?.fromTunnel(count)
    }

    /// Writes what was kept, then the end if that has come.
    func writeBacklog() {
        guard descriptor >= 0, let connection else { return }
        while !backlog.isEmpty, appWritable {
            let sent = withUnsafeTemporaryAllocation(of: iovec.self, capacity: ByteQueue.maximumPieces) { vectors in
                let used = backlog.pieces(vectors)
                return write(UnsafeMutableBufferPointer(rebasing: vectors[..<used]), more: false)
            }
            guard sent > 0 else { break }
            backlog.remove(sent)
            account(sent, connection)
        }
        guard !isEnded else { return }
        if !connection.http2.control.isEmpty { connection.runLater() }
        if receivedEnd { finishWriting() }
    }

    /// The peer's END_STREAM.
    func receiveEnd() {
        guard !isEnded else { return }
        receivedEnd = true
        finishWriting()
    }

    private func finishWriting() {
        guard descriptor >= 0, backlog.isEmpty, !wroteEnd else { return }
        wroteEnd = true
        // Where the application has ended too, the close that follows sends the FIN.
        if !(appEnded && readEnd) { Sockets.shutdownWrite(descriptor) }
        endIfComplete()
    }

    private func endIfComplete() {
        if appEnded, wroteEnd { end(nil) }
    }

    // MARK: Ends out of order

    /// The peer answered our request.
    func receive(_ reply: ConnectReply, end ended: Bool) {
        guard let connection, !isAnswered else { return }
        isAnswered = true
        if let deadline { connection.loop.cancel(deadline) }
        deadline = nil
        receivedEnd = ended
        guard reply.isSuccess else {
            connection.http2.reset(id, HTTP2Code.cancel)
            delegate?.stream(self, received: reply)
            return end(HBONEError(.rejected, "the peer answered \(reply.status)", status: reply.status))
        }
        delegate?.stream(self, received: reply)
    }

    /// The peer's RST_STREAM.
    func peerReset(_ code: UInt32) {
        guard !isEnded else { return }
        guard isAnswered, code == HTTP2Code.noError || code == HTTP2Code.cancel else {
            if code == HTTP2Code.refusedStream {
                return end(HBONEError(.refusedByPeer, "the peer did not take the stream", http2Code: code))
            }
            return end(
                HBONEError(.streamReset, "the peer reset the stream: \(HTTP2Code.name(code))", http2Code: code))
        }
        // A peer that is done with us: what it sent before is still delivered.
        appEnded = true
        appReadable = false
        receivedEnd = true
        if wroteEnd { endIfComplete() } else { finishWriting() }
    }

    private func appBroke(_ error: SystemError? = nil) {
        guard let connection else { return }
        let cause = error ?? SystemError("receive", code: Sockets.pendingError(descriptor))
        resetPeer(connection)
        end(HBONEError(.applicationFailed, "the application's connection broke", systemError: cause))
    }

    /// The connection ended under the stream, or took it away.
    func connectionEnded(_ error: HBONEError) {
        guard !isEnded else { return }
        end(error)
    }

    func closeDescriptor(reset: Bool, _ loop: EventLoop) {
        guard descriptor >= 0 else { return }
        if reset { Sockets.resetOnClose(descriptor) }
        loop.close(descriptor, registration)
        registration = nil
        descriptor = -1
    }
}
