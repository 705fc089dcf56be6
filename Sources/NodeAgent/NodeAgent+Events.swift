import ObjectSource
import Redirection

/// What a pod's owner is told: how its enrolment goes, and what to do when it does not.
extension NodeAgent {
    static let enrolledReason = "Enrolled"
    static let enrolFailedReason = "EnrollFailed"
    static let unenrolledReason = "Unenrolled"
    static let driftRepairedReason = "DriftRepaired"

    func tellOfEnrolment(_ pod: ManagedPod) {
        tell(
            PodEvent(
                pod.reference, reason: Self.enrolledReason,
                message: "The pod is in the mesh: its traffic is captured on node \(configuration.nodeName).",
                isWarning: false))
    }

    func tellOfEnd(_ pod: ManagedPod) {
        tell(
            PodEvent(
                pod.reference, reason: Self.unenrolledReason,
                message:
                    "The pod has left the mesh: its traffic is no longer protected. Label the pod or its namespace "
                    + "\(MeshLabel.dataplaneMode)=ambient to take it in again.", isWarning: false))
    }

    func tellOfFailure(_ pod: PodReference, _ error: any Error) {
        let failure = AgentError(error)
        // A wait that was cut short is nobody's business.
        guard !(error is CancellationError) else { return }
        let advice =
            failure.hint.isEmpty
            ? "It is tried again; the agent's log on node \(configuration.nodeName) has more." : failure.hint + "."
        let cause = failure.cause.isEmpty ? "" : ": \(failure.cause)"
        tell(
            PodEvent(
                pod, reason: Self.enrolFailedReason,
                message: "The pod cannot be taken into the mesh yet: \(failure.message)\(cause). \(advice)"))
    }

    func tellOfRepair(_ pod: ManagedPod, _ found: [Drift]) {
        guard !found.isEmpty else { return }
        let text = found.map(\.description).joined(separator: "; ")
        tell(
            PodEvent(
                pod.reference, reason: Self.driftRepairedReason,
                message:
                    "The pod's capture was not as it should be and has been repaired: \(text). If it happens again, "
                    + "find out what changes rules, routes or sockets in the pod."))
    }

    /// Behind the work, which does not wait for who keeps events.
    private func tell(_ event: PodEvent) {
        guard let events else { return }
        let log = log
        Task {
            do {
                try await events.record(event)
            } catch {
                log.warning(
                    "an event cannot be written", metadata: ["pod": "\(event.pod.name)", "error": "\(error)"])
            }
        }
    }

    /// Shows how the source of objects fares. Runs until the task is cancelled.
    func watchSource() async {
        while !Task.isCancelled {
            let health = source.health
            metrics.objectsReachable.with([]).set(health.isSynced && health.problem == nil ? 1 : 0)
            if let contact = health.lastContact { metrics.objectsContact.with([]).set(contact) }
            do { try await Task.sleep(for: configuration.sourcePoll) } catch { return }
        }
    }

    /// Writes the status of a pod again after a while.
    func reportAgain(_ pod: ManagedPod) {
        guard pod.reportAgain == nil else { return }
        let id = pod.record.containerID
        let pause = pod.reportBackoff.next()
        pod.reportAgain = Task {
            // Cut short when the agent ends, which is seen below.
            try? await Task.sleep(for: pause)
            guard !Task.isCancelled, let pod = self.pods[id] else { return }
            pod.reportAgain = nil
            await self.report(pod)
        }
    }
}
