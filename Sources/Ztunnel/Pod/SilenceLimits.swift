import LinuxNetwork

/// How long a peer that says nothing at all is believed to be there, on plain TCP (tunnels have HTTP/2's PING as well).
struct SilenceLimits: Sendable, Hashable {
    /// Seconds and probes; `nil`: nobody is probed.
    var keepAlive: PodSockets.KeepAlive? = PodSockets.KeepAlive()
    /// TCP_USER_TIMEOUT in milliseconds: for how long sent bytes may go unacknowledged.
    var userTimeout: UInt32?

    /// What the keeper's sockets have already.
    static let standard = SilenceLimits()

    /// Sets them on a socket; on a listener, for all that it accepts from then on. A socket that does not take them
    /// works all the same, and only a peer that is gone is noticed later.
    func apply(to fd: CInt) {
        do throws(SystemError) {
            if let keepAlive {
                try Sockets.setKeepAlive(
                    fd, idle: keepAlive.idle, interval: keepAlive.interval, count: keepAlive.count)
            } else {
                try Sockets.setKeepAliveOff(fd)
            }
            if let userTimeout { try Sockets.setUserTimeout(fd, milliseconds: userTimeout) }
        } catch {
            return
        }
    }
}

extension ZtunnelConfiguration {
    /// `KEEPALIVE_*` and `USER_TIMEOUT_ENABLED`.
    var silenceLimits: SilenceLimits {
        var limits = SilenceLimits(keepAlive: keepaliveEnabled ? PodSockets.KeepAlive(keepalive) : nil)
        if userTimeoutEnabled {
            limits.userTimeout = UInt32(clamping: keepalive.userTimeout.components.seconds * 1000)
        }
        return limits
    }
}

extension PodSockets.KeepAlive {
    init(_ configured: ZtunnelConfiguration.Keepalive) {
        self.init()
        idle = CInt(clamping: configured.idle.components.seconds)
        interval = CInt(clamping: configured.interval.components.seconds)
        count = CInt(clamping: configured.retries)
    }
}
