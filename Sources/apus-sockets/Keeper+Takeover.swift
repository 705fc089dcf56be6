import LinuxNetwork

/// From keeper to keeper.
extension Keeper {
    /// Goes on with what another keeper had.
    func adopt(_ inherited: [InheritedPod]) {
        namesAreComplete()
        for pod in inherited {
            do {
                pods[pod.description.uid] = try Pod(loop, log, adopting: pod)
            } catch {
                log.error("a pod was not adopted", ["uid": pod.description.uid, "error": error])
            }
        }
        // Where a ztunnel that made its own listeners was in charge.
        listenAgain()
    }

    /// Lets a successor have everything. Until that is decided the keeper only fills stocks: what others ask waits, so
    /// what has been handed does not change.
    func handOver(to successor: AgentConnection) throws -> Takeover {
        guard takeover == nil else { throw Refusal("another keeper is taking over already") }
        guard let agents, let ztunnels else { throw Refusal("this keeper does not serve yet") }
        unknown.removeAll { $0 === successor }
        for connection in connections { connection.hold() }
        agents.hold()
        ztunnels.hold()
        log.info("another keeper takes over", ["pid": successor.peer.pid, "pods": pods.count])
        let begun = Takeover(
            self, successor, pods: Array(pods.values), sockets: [agents.descriptor, ztunnels.descriptor])
        takeover = begun
        return begun
    }

    /// The successor did not make it: all goes on as it was.
    func takeoverFailed() {
        takeover = nil
        log.warn("the takeover has failed; this keeper goes on", ["pods": pods.count])
        for connection in connections { connection.goOn() }
        agents?.goOn()
        ztunnels?.goOn()
        listenAgain()
    }

    /// The successor is the keeper now. What it did not take ends here, so that the ports are free for it.
    func succeeded(refused: [Pod]) {
        for removal in removals.values { removal.finish(because: "another keeper has taken over") }
        for pod in refused { pod.end() }
        isSucceeded = true
        loop.stop()
    }

    var connections: [Connection] {
        unknown + [agent, active, successor, retired].compactMap { $0 as Connection? }
    }
}
