import LinuxNetwork

/// A pod on its way out: its sockets stay until every ztunnel has let go, for 5 s at most.
final class Removal: TimerHandler {
    let pod: Pod
    private unowned let keeper: Keeper
    private var awaiting: [ZtunnelConnection]
    private var answers: [(agent: AgentConnection, id: UInt64)] = []
    private var timer: TimerID?

    init(_ pod: Pod, awaiting: [ZtunnelConnection], keeper: Keeper) {
        self.pod = pod
        self.awaiting = awaiting
        self.keeper = keeper
        timer = keeper.loop.schedule(after: .seconds(5), self)
    }

    /// Whom to tell when the sockets are gone.
    func answer(_ agent: AgentConnection, _ id: UInt64) { answers.append((agent, id)) }

    /// This ztunnel has let go, or is gone itself.
    func done(_ ztunnel: ZtunnelConnection) {
        awaiting.removeAll { $0 === ztunnel }
        finishIfDone()
    }

    func finishIfDone() {
        if awaiting.isEmpty { finish(because: nil) }
    }

    func timerFired(tag: Int) {
        timer = nil
        finish(because: "ztunnel did not answer for 5 s")
    }

    /// Closes the sockets and answers, once.
    func finish(because reason: String?) {
        if let reason { keeper.log.warn("a pod's sockets are closed early", ["uid": pod.uid, "reason": reason]) }
        if let timer { keeper.loop.cancel(timer) }
        timer = nil
        awaiting = []
        pod.end()
        keeper.removed(self)
        for (agent, id) in answers where agent.isOpen { agent.reply(id) }
        answers = []
    }
}
