import Handover

/// A keeper that takes the place of one that was killed knows no pod. ztunnel goes on serving them, and the keeper lets
/// it, until it has heard of all.
extension NodeAgent {
    /// Adds what the keeper does not have, and says that this is all. A pod that cannot be added now is added by its
    /// reconciliation; the others do not wait for it.
    func nameAll() async {
        guard isKeeperListed else { return }
        for (id, pod) in pods where pod.isInMesh && pod.keeperState == nil {
            if Task.isCancelled { return }
            do {
                try await exclusively(id) {
                    guard let pod = self.pods[id], pod.isInMesh, pod.keeperState == nil else { return }
                    try await self.tellKeeper(pod)
                }
            } catch {
                log.warning(
                    "a pod could not be named to the keeper yet",
                    metadata: ["pod": "\(pod.name)", "error": "\(AgentError(error))"])
            }
        }
        if Task.isCancelled { return }
        do {
            try await keeper.named()
        } catch {
            // Another connection begins with all of this again.
            log.warning("the keeper was not told that it has all pods", metadata: ["error": "\(error)"])
        }
    }
}
