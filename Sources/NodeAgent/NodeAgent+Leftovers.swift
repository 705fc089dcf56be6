import LinuxNetwork

/// What could not be taken away at a pod's end.
extension NodeAgent {
    /// Tries again to take capture out of a namespace that nobody claims any more: with the keeper's sockets gone, what is
    /// left of it would refuse the namespace's traffic for as long as there is one.
    func takeAwayLater(_ pod: ManagedPod) {
        let namespace = pod.namespace.id
        leftovers[namespace]?.cancel()
        leftovers[namespace] = Task {
            var backoff = Backoff(shortest: .milliseconds(100), longest: .seconds(10))
            for _ in 0..<Self.mostTakings {
                // Ends early when the agent ends, which is seen below.
                try? await Task.sleep(for: backoff.next())
                let isOver = await self.exclusively(pod.record.containerID) { () async -> Bool in
                    guard !Task.isCancelled, self.claims[namespace] == nil else { return true }
                    do {
                        try await self.takeAway(pod)
                        return true
                    } catch {
                        return false
                    }
                }
                guard !isOver else { return self.leftovers[namespace] = nil }
            }
            self.leftovers[namespace] = nil
            self.log.error("capture could not be taken away", metadata: ["pod": "\(pod.name)"])
        }
    }

    /// With pauses of up to 10 s: some minutes.
    private static let mostTakings = 30
}
