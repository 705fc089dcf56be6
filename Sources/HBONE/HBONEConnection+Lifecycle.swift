import Glibc
import LinuxNetwork
import TLSEngine

/// From the first event to the last.
extension HBONEConnection: EventHandler, DeferredHandler, TimerHandler {
    public func ready(_ events: ReadyEvents) {
        if phase == .connecting {
            guard !events.isDisjoint(with: [.writable, .hangup, .error]) else { return }
            finishConnect()
            return
        }
        if !events.isDisjoint(with: [.readable, .readHangup, .hangup, .error]) { readable = true }
        // After a hang-up a short read is no proof of an empty socket: the end is still to be read.
        if !events.isDisjoint(with: [.readHangup, .hangup, .error]) { sawHangup = true }
        if !events.isDisjoint(with: [.writable, .hangup, .error]) { isBlocked = false }
        if phase == .lingering { return linger() }
        if readable { readInput() }
        if !isBlocked, outputEnd > outputStart { flush() }
    }

    public func runDeferred() {
        isDeferred = false
        if !kicked.isEmpty {
            let streams = kicked
            kicked = []
            for stream in streams { stream.lookAgain() }
        }
        guard phase == .handshaking || phase == .open else { return }
        if readable, tls != nil { readInput() }
        flush()
    }

    /// Has ``runDeferred()`` called when all events of the round are through.
    func runLater() {
        guard !isDeferred else { return }
        isDeferred = true
        loop.afterRound(self)
    }

    private func finishConnect() {
        let code = Sockets.pendingError(descriptor)
        guard code == 0 else {
            let place = peerEndpoint.map { "connect to \($0)" } ?? "connect"
            return finish(
                HBONEError(.connectFailed, "no connection to the peer", systemError: SystemError(place, code: code)),
                politely: false)
        }
        phase = .handshaking
        restartTimer(settings.handshakeTimeout, Timer.phase)
        // The client speaks first.
        readInput()
        flush()
    }

    /// TLS is done.
    func established() {
        phase = .open
        restartTimer(settings.settingsTimeout, Timer.phase)
        http2.start()
        runLater()
        guard delegate?.connectionEstablished(self) ?? false else {
            if phase == .open { http2.goAway(last: 0) }
            return finish(HBONEError(.refusedByOwner, "the peer is not wanted here"), politely: false)
        }
    }

    // MARK: Time

    func restartTimer(_ delay: Duration, _ tag: Int) {
        if let timer { loop.cancel(timer) }
        timer = loop.schedule(after: delay, self, tag: tag)
    }

    public func timerFired(tag: Int) {
        timer = nil
        switch tag {
        case Timer.ping: keepAlive()
        case Timer.linger: closeDescriptor()
        default: phaseTimedOut()
        }
    }

    private func phaseTimedOut() {
        let place = peerEndpoint.map { " to \($0)" } ?? ""
        switch phase {
        case .connecting:
            finish(
                HBONEError(
                    .connectTimedOut, "connect\(place) timed out",
                    hint: "a NetworkPolicy may block port \(peerEndpoint?.port ?? 15008)"), politely: false)
        case .handshaking:
            finish(HBONEError(.handshakeTimedOut, "the TLS handshake took too long"), politely: false)
        case .open:
            http2.goAway(last: http2.highestPeerStream, code: HTTP2Code.settingsTimeout)
            finish(HBONEError(.settingsTimedOut, "the peer sent no HTTP/2 SETTINGS"), politely: false)
        case .lingering, .closed: break
        }
    }

    private func keepAlive() {
        guard phase == .open else { return }
        guard !pingOutstanding else {
            http2.goAway(last: http2.highestPeerStream)
            return finish(
                HBONEError(.peerUnresponsive, "the peer did not answer a PING in \(settings.pingTimeout)"),
                politely: false)
        }
        http2.refillBudget()
        // A client that does not answer the drain's own PING has had its warning long enough.
        announceDrain()
        if let limit = settings.idleTimeout, streamCount == 0, loop.now - idleSince >= limit.nanoseconds {
            http2.goAway(last: http2.highestPeerStream)
            return finish(nil, politely: true)
        }
        pingOutstanding = true
        http2.ping(Self.livenessPing)
        restartTimer(settings.pingTimeout, Timer.ping)
        runLater()
    }

    func pong(_ opaque: UInt64) {
        if opaque == Self.livenessPing, pingOutstanding {
            pingOutstanding = false
            restartTimer(settings.pingInterval, Timer.ping)
        } else if opaque == Self.drainPing {
            announceDrain()
        }
    }

    /// The final GOAWAY of a server's drain, once.
    private func announceDrain() {
        guard isDraining, !drainAnnounced else { return }
        drainAnnounced = true
        http2.goAway(last: http2.highestPeerStream)
        runLater()
    }

    // MARK: The end

    /// Closes when the last stream of a connection that takes no more is over and everything has been sent; called
    /// when nothing is left to send.
    func finishIfDrained() {
        guard isDraining && drainAnnounced || peerGoAway != nil, phase == .open else { return }
        guard waiting.isEmpty, streams.values.allSatisfy(\.isDelivering) else { return }
        finish(peerGoAway?.code == .peerError ? peerGoAway : nil, politely: true, sparing: true)
    }

    /// Ends the connection for everybody: streams, then the delegate. What is said last (GOAWAY, close_notify) is
    /// sent if the socket takes it.
    /// - Parameters:
    ///   - politely: Waits a moment for the peer to read it.
    ///   - sparing: Leaves alone the streams that only have bytes left for a slow application.
    func finish(_ error: HBONEError?, politely: Bool, sparing: Bool = false) {
        guard !isClosed else { return }
        let saidHello = phase == .open
        phase = .lingering
        if saidHello { sealLastWords() }
        let streamError = error ?? HBONEError(.closedLocally, "the tunnel connection was closed")
        endWaiting(streamError)
        for stream in Array(streams.values) where !(sparing && stream.isDelivering) {
            stream.connectionEnded(streamError)
        }
        sendQueue.removeAll()
        let delegate = delegate
        self.delegate = nil
        _ = sendOutput()
        if politely, phase == .lingering, !inputEnded {
            restartTimer(settings.lingerTimeout, Timer.linger)
            if outputEnd == outputStart { Sockets.shutdownWrite(descriptor) }
        } else {
            closeDescriptor()
        }
        delegate?.connectionClosed(self, error: error)
    }

    /// After a broken rule of HTTP/2.
    func fail(_ violation: HTTP2Violation) {
        guard !isClosed else { return }
        http2.fail(violation)
        finish(
            HBONEError(
                .protocolError, "the peer broke HTTP/2: \(violation.reason) (\(HTTP2Code.name(violation.code)))",
                http2Code: violation.code), politely: true)
    }

    /// The transport is gone.
    func lost(_ error: HBONEError?) {
        inputEnded = true
        let reason = peerGoAway?.code == .peerError ? peerGoAway : error
        finish(reason, politely: false, sparing: true)
    }

    private func linger() {
        guard sendOutput() else {
            if phase != .closed, inputEnded { closeDescriptor() }
            return
        }
        Sockets.shutdownWrite(descriptor)
        // What the peer still says is read and forgotten, so that our close is a FIN and no reset.
        withUnsafeTemporaryAllocation(byteCount: 16384, alignment: 16) { buffer in
            for _ in 0..<64 {
                let got = recv(descriptor, buffer.baseAddress, buffer.count, 0)
                if got == 0 || got < 0 && errno != EAGAIN && errno != EINTR { return closeDescriptor() }
                if got < 0 { return }
            }
            closeDescriptor()
        }
    }

    func closeDescriptor() {
        guard phase != .closed else { return }
        phase = .closed
        if let timer { loop.cancel(timer) }
        timer = nil
        if descriptor >= 0 { loop.close(descriptor, registration) }
        registration = nil
        descriptor = -1
        releaseOutput()
        releaseCarrier()
    }

    func endWaiting(_ error: HBONEError) {
        while let stream = waiting.popFirst() { stream.connectionEnded(error) }
    }
}

extension Duration {
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(max(seconds, 0)) * 1_000_000_000 + UInt64(max(attoseconds, 0)) / 1_000_000_000
    }
}
