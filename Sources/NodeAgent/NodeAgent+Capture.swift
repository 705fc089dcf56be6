import Handover
import LinuxNetwork
import ObjectSource
import Redirection

/// Bringing one pod to where it should be. Everything here runs under the pod's turn.
extension NodeAgent {
    // MARK: Enrolment

    /// Captures the pod's traffic: the sockets first, then the rules that lead to them, so that no connection ever
    /// finds nobody at the other end. Doing it again is no change.
    func enrol(_ pod: ManagedPod, _ object: Pod) async throws {
        let start = ContinuousClock.now
        let overrides = CaptureOverrides(object.metadata.annotations)
        for problem in overrides.invalid {
            log.warning("an annotation is passed over", metadata: ["pod": "\(pod.name)", "annotation": "\(problem)"])
        }
        let namespace = pod.namespace
        var plan = RedirectionPlan(
            families: pod.record.plan.families, capturesInbound: !overrides.bypassesInbound,
            capturesDNS: overrides.capturesDNS ?? configuration.capturesDNS,
            virtualInterfaces: overrides.virtualInterfaces, dropsUncaptured: hasSecondLine(pod),
            requiresSeal: requiresSeal)
        plan = await exempting(plan, pod, object)
        let isNew = pod.record.phase != .capturing
        let asksNode = plan.capturesDNS && pod.resolver == nil
        var record = pod.record
        record.plan = plan
        record.phase = .capturing
        record.serviceAccount = object.spec.serviceAccountName
        // Written before anything is done: whoever comes after a crash must know that there may be something.
        let (written, node) = try await pool.run { [store, record, configuration] in
            var record = record
            record.plan.families = try RedirectionPlan.families(in: namespace.value)
            try store.write(record)
            return (record, asksNode ? Self.nodeResolver(configuration.nodeResolverFile) : nil)
        }
        pod.record.plan = written.plan
        pod.record.serviceAccount = written.serviceAccount
        if let node { pod.resolver = expectedResolver(of: object, node) }
        readSettings(of: pod, object)
        if isNew {
            pod.turn(to: .capturing)
            pod.isProven = false
        }
        do {
            try await makeHold(pod)
        } catch {
            pod.problem = AgentError(error).message
            await closeIfWanted(pod)
            throw error
        }
        metrics.enrolment.with([]).observe((ContinuousClock.now - start) / .seconds(1))
        log.info(
            "a pod is enrolled",
            metadata: [
                "pod": "\(pod.name)", "container": "\(pod.record.containerID)", "namespace": "\(namespace.id)",
                "state": "\(pod.keeperState.map { "\($0)" } ?? "unknown")",
            ])
        if isNew { tellOfEnrolment(pod) }
        // What is said of it is no part of it: an ADD does not wait for who keeps the objects.
        reportSoon(pod)
        watchForResolver(pod)
        watchSpared(pod)
        // The object may be another by now, and was not held against what was under way.
        if isOutOfPlace(pod) { scheduleReconciliation(pod) }
    }

    /// Takes over what the object asks of ztunnel, and names what in it means nothing.
    func readSettings(of pod: ManagedPod, _ object: Pod) {
        let overrides = TrafficOverrides(object.metadata)
        guard pod.settings != overrides.settings || pod.record.phase != .capturing else { return }
        pod.settings = overrides.settings
        for problem in overrides.invalid {
            log.warning("an annotation is passed over", metadata: ["pod": "\(pod.name)", "annotation": "\(problem)"])
        }
    }

    /// Has the keeper make the pod's sockets, or find them made, and tells it what else is to be known of the pod.
    func tellKeeper(_ pod: ManagedPod) async throws {
        let record = pod.record
        let settings = pod.settings
        let status = try await keeper.add(
            KeeperPod(
                uid: record.uid, name: record.podName, namespace: record.podNamespace,
                serviceAccount: record.serviceAccount, dualStack: record.plan.families.contains(.v6),
                dns: record.plan.capturesDNS, resolver: record.plan.capturesDNS ? pod.resolver : nil,
                netnsInode: pod.namespace.id.inode, settings: settings), in: pod.namespace)
        if pod.record.settings != settings {
            pod.record.settings = settings
            try await save(pod)
        }
        // ztunnel may have acknowledged the pod already: then the event with that news, sent after the reply, was here
        // before it.
        if pod.keeperState == nil { setKeeperState(pod, status.state) }
    }

    /// Sockets and rules, as the record says; then nothing keeps the pod off the network.
    func makeHold(_ pod: ManagedPod) async throws {
        let (backend, plan, namespace, isBlocked) = (backend, pod.record.plan, pod.namespace, pod.isBlocked)
        // Beside the keeper's work and what follows. Should it fail, the rules' own attempt says why.
        let preparation = Task { [pool] in try await pool.run { try backend.prepare(plan, in: namespace.value) } }
        do {
            try await tellKeeper(pod)
            try await pool.run {
                try namespace.value.run {
                    try backend.apply(plan, in: namespace.value)
                    if isBlocked != false { try backend.unblock(in: namespace.value) }
                }
            }
            _ = await preparation.result
        } catch {
            // Nobody works in the namespace any more when this ends.
            _ = await preparation.result
            pod.isProven = false
            throw error
        }
        pod.isProven = true
        hasOpened(pod)
    }

    // MARK: Un-enrolment

    /// Begins to let a pod go: its status first, so that peers stop expecting HBONE; the rest follows by itself.
    func beginLeaving(_ pod: ManagedPod) async throws {
        pod.turn(to: .leaving)
        try await save(pod)
        try await open(pod)
        await report(pod)
        log.info("a pod leaves the mesh", metadata: ["pod": "\(pod.name)"])
        await releaseProbes(of: pod)
        startDrain(pod)
    }

    func startDrain(_ pod: ManagedPod) {
        let id = pod.record.containerID
        let generation = pod.generation
        pod.drain = Task { await self.drain(id, generation) }
    }

    /// The pod, if it is still on the same way.
    private func leaving(_ id: String, _ generation: Int) -> ManagedPod? {
        guard let pod = pods[id], pod.generation == generation, pod.record.phase == .leaving else { return nil }
        return pod
    }

    private func drain(_ id: String, _ generation: Int) async {
        guard let reference = leaving(id, generation)?.reference else { return }
        await waitForPeers(reference)
        guard await persistently(.stopCapturing, id, generation), await capturedConnectionsEnd(id, generation)
        else { return }
        if await persistently(.letGo, id, generation) { updateGauges() }
    }

    private enum LeavingStep { case stopCapturing, letGo }

    private func perform(_ step: LeavingStep, _ pod: ManagedPod) async throws {
        let (backend, plan, namespace) = (backend, pod.record.plan, pod.namespace)
        switch step {
        case .stopCapturing:
            try await pool.run { try backend.leave(plan, in: namespace.value) }
            pod.hasStoppedCapturing = true
        case .letGo:
            try await keeper.remove(uid: pod.record.uid, drain: true)
            try await takeAway(pod)
            // Not through turn(to:), which would cancel the task this runs in.
            pod.record.phase = .attached
            pod.keeperState = nil
            pod.isProven = false
            try await save(pod)
            log.info("a pod has left the mesh", metadata: ["pod": "\(pod.name)"])
            tellOfEnd(pod)
        }
    }

    private func waitForPeers(_ reference: PodReference) async {
        let wait = configuration.peerUpdateTime
        let updated = configuration.peersUpdated
        await withTaskGroup(of: Void.self) { group in
            if let updated { group.addTask { await updated(reference) } }
            // Cancelled when the peers are faster, or the pod has turned round.
            group.addTask { try? await Task.sleep(for: wait) }
            await group.next()
            group.cancelAll()
        }
    }

    /// Waits until nothing is captured any more, or the deadline.
    /// - Returns: Whether the pod is still on its way out.
    private func capturedConnectionsEnd(_ id: String, _ generation: Int) async -> Bool {
        let deadline = ContinuousClock.now + configuration.drainDeadline
        while let pod = leaving(id, generation), !Task.isCancelled {
            let (backend, namespace) = (backend, pod.namespace)
            let left: Int?
            do {
                left = try await pool.run { try backend.capturedConnections(in: namespace.value) }
            } catch {
                left = nil
                log.warning(
                    "cannot count captured connections", metadata: ["pod": "\(pod.name)", "error": "\(error)"])
            }
            if left == 0 { return leaving(id, generation) != nil }
            if ContinuousClock.now >= deadline {
                metrics.cut.with([]).increment()
                log.warning(
                    "captured connections are cut: the time to leave is over",
                    metadata: ["pod": "\(pod.name)", "connections": "\(left.map(String.init) ?? "unknown")"])
                return leaving(id, generation) != nil
            }
            // Ends early when the pod turns round; the loop sees it.
            try? await Task.sleep(for: configuration.drainPoll)
        }
        return false
    }

    /// Does a step of leaving under the pod's turn, again and again with back-off until it succeeds.
    /// - Returns: Whether it was done; not when the pod is no longer on its way out.
    private func persistently(_ step: LeavingStep, _ id: String, _ generation: Int) async -> Bool {
        var backoff = Backoff(shortest: .milliseconds(100), longest: .seconds(10))
        while !Task.isCancelled {
            do {
                return try await exclusively(id) {
                    guard let pod = self.leaving(id, generation) else { return false }
                    try await self.perform(step, pod)
                    return true
                }
            } catch {
                metrics.failures.with([]).increment()
                log.warning(
                    "a pod cannot leave the mesh yet",
                    metadata: ["container": "\(id)", "error": "\(AgentError(error))"])
                // Ends early when the pod turns round; the loop sees it.
                try? await Task.sleep(for: backoff.next())
            }
        }
        return false
    }

    // MARK: The end of a pod

    /// Takes a pod out of everything: rules, keeper, record, status. What cannot be done now is remembered or logged.
    func bury(_ pod: ManagedPod, tellKeeper: Bool = true) async {
        let wasInMesh = pod.isInMesh
        pod.turn(to: .gone)
        pod.reconciliation?.cancel()
        pod.suspicion?.cancel()
        let id = pod.record.containerID
        pods[id] = nil
        burials += 1
        if claims[pod.namespace.id] == id { claims[pod.namespace.id] = nil }
        namespaceNumbers = namespaceNumbers.filter { $0.value != id }
        await releaseProbes(of: pod)
        if wasInMesh {
            do {
                try await takeAway(pod)
            } catch {
                log.warning(
                    "capture was not taken away; trying again", metadata: ["pod": "\(pod.name)", "error": "\(error)"])
                takeAwayLater(pod)
            }
        }
        // A later sandbox of the same pod has the status and the keeper's entry now.
        if tellKeeper, !pods.values.contains(where: { $0.record.uid == pod.record.uid }) {
            await report(pod)
            if wasInMesh {
                graves[id] = pod.record
                await settle(id, save: true)
                return
            }
        }
        await forget(id)
    }

    /// Tells the keeper of a pod that is over; the record stays until it has heard.
    func settle(_ id: String, save: Bool = false) async {
        guard let record = graves[id] else { return }
        // The pod may be back in another sandbox, and the keeper's entry is that one's.
        guard !pods.values.contains(where: { $0.record.uid == record.uid && $0.isInMesh }) else {
            graves[id] = nil
            return await forget(id)
        }
        do {
            try await keeper.remove(uid: record.uid, drain: false)
        } catch {
            log.warning(
                "the keeper was not told of a pod's end yet",
                metadata: ["pod": "\(record.podNamespace)/\(record.podName)", "error": "\(error)"])
            let store = store
            if save {
                do {
                    try await pool.run { try store.write(record) }
                } catch {
                    log.warning("a record was not written", metadata: ["container": "\(id)", "error": "\(error)"])
                }
            }
            return
        }
        graves[id] = nil
        await forget(id)
    }

    private func forget(_ id: String) async {
        // The container may be back already.
        guard pods[id] == nil else { return }
        let store = store
        do {
            try await pool.run { try store.remove(id) }
        } catch {
            log.warning("a record was not removed", metadata: ["container": "\(id)", "error": "\(error)"])
        }
    }

    func save(_ pod: ManagedPod) async throws {
        let (store, record) = (store, pod.record)
        try await pool.run { try store.write(record) }
    }
}
