import Handover
import LinuxNetwork
import ObjectSource
import Redirection

/// Comparing what is with what should be, and making up the difference.
extension NodeAgent {
    // MARK: Recovery

    /// Takes up what an agent before this one has left, without touching it: every pod whose namespace is still there
    /// is in our care again, and is proven as soon as the keeper answers.
    func recover() async throws {
        let store = store
        let (records, unreadable) = try await pool.run { try store.load() }
        for name in unreadable {
            log.warning("a pod's record cannot be read and is passed over", metadata: ["file": "\(name)"])
        }
        for record in records {
            if record.phase == .gone {
                graves[record.containerID] = record
                continue
            }
            do {
                let namespace = try await pool.run {
                    SharedNamespace(try NetworkNamespace(path: record.netnsPath))
                }
                guard namespace.id == record.namespaceID else {
                    throw AgentError(.invalidNamespace, "\(record.netnsPath) is another namespace now")
                }
                guard !hostNamespaces.contains(namespace.id), claims[namespace.id] == nil else {
                    throw AgentError(.invalidNamespace, "\(record.netnsPath) is the node's or another pod's")
                }
                let pod = ManagedPod(record, namespace)
                // What an agent has proven holds until the kernel says otherwise; what it has reported stands.
                pod.isProven = record.phase == .capturing
                pod.reported = reportedState(of: record)
                pod.settings = record.settings
                pod.unservedSince = ContinuousClock.now
                pods[record.containerID] = pod
                claims[namespace.id] = record.containerID
                await listen(to: pod)
            } catch {
                log.info(
                    "a pod of an earlier agent is gone",
                    metadata: ["pod": "\(record.podNamespace)/\(record.podName)", "reason": "\(AgentError(error))"])
                var gone = record
                gone.phase = .gone
                graves[record.containerID] = gone
            }
        }
        await adoptProbes()
        for pod in pods.values {
            if pod.record.phase == .leaving { startDrain(pod) }
            watchSpared(pod)
            scheduleReconciliation(pod)
        }
        updateGauges()
    }

    /// What the pod's object says of its state.
    func reportedState(of record: PodRecord) -> ManagedPod.Report? {
        guard let object = object(of: record) else { return nil }
        let annotations = object.metadata.annotations
        let state: ManagedPod.Report.State =
            switch annotations[MeshLabel.redirection] {
            case nil: .absent
            case MeshLabel.redirectionEnabled: .enabled
            default: .pending(problem: annotations[MeshLabel.redirectionProblem])
            }
        return ManagedPod.Report(state: state, spared: annotations[MeshLabel.sparedConnections])
    }

    // MARK: One pod

    /// Whether the objects say something else than what is. Cheap, because every change of any object asks it of every
    /// pod; proofs have their own times.
    func isOutOfPlace(_ pod: ManagedPod) -> Bool {
        guard let object = object(of: pod.record) else { return false }
        switch (decide(object), pod.record.phase) {
        case (.enrol, .capturing):
            return hasOtherCapture(pod, object) || pod.record.settings != TrafficOverrides(object.metadata).settings
        case (.enrol, _), (.stayOut, .capturing): return true
        case (.stayOut, _): return false
        }
    }

    private func hasOtherCapture(_ pod: ManagedPod, _ object: Pod) -> Bool {
        let overrides = CaptureOverrides(object.metadata.annotations)
        return pod.record.plan.capturesInbound == overrides.bypassesInbound
            || pod.record.plan.capturesDNS != overrides.capturesDNS ?? configuration.capturesDNS
            || pod.record.plan.virtualInterfaces != overrides.virtualInterfaces
            || pod.record.plan.dropsUncaptured != hasSecondLine(pod)
            || pod.record.plan.requiresSeal != requiresSeal || hasOtherProbes(pod, object)
    }

    /// Brings a pod to where it should be, soon; again when asked again meanwhile.
    func scheduleReconciliation(_ pod: ManagedPod) {
        pod.needsReconciliation = true
        guard pod.reconciliation == nil else { return }
        let id = pod.record.containerID
        pod.reconciliation = Task {
            var backoff = Backoff(shortest: .milliseconds(100), longest: .seconds(10))
            while !Task.isCancelled, self.beginsReconciliation(of: id) {
                do {
                    try await self.exclusively(id) { try await self.reconcile(id) }
                } catch {
                    self.reconciliationFailed(id, error)
                    // Ends early when the agent or the pod ends; the loop sees it.
                    try? await Task.sleep(for: backoff.next())
                }
            }
            self.updateGauges()
        }
    }

    /// - Returns: Whether there is something to do; otherwise the task ends, and the next request starts another.
    private func beginsReconciliation(of id: String) -> Bool {
        guard let pod = pods[id] else { return false }
        if pod.needsReconciliation {
            pod.needsReconciliation = false
            return true
        }
        pod.reconciliation = nil
        return false
    }

    private func reconciliationFailed(_ id: String, _ error: any Error) {
        metrics.failures.with([]).increment()
        // While the keeper is away nothing can succeed, and its return wakes everybody.
        guard let pod = pods[id], isKeeperConnected else { return }
        pod.needsReconciliation = true
        tellOfFailure(pod.reference, error)
        log.warning(
            "a pod is not where it should be yet", metadata: ["pod": "\(pod.name)", "error": "\(AgentError(error))"])
    }

    private func reconcile(_ id: String) async throws {
        guard let pod = pods[id] else { return }
        guard let object = object(of: pod.record) else { return try await prove(pod) }
        switch (decide(object), pod.record.phase) {
        case (.enrol, .attached), (.enrol, .leaving):
            try await enrol(pod, object)
        case (.enrol, .capturing):
            if hasOtherCapture(pod, object) { return try await enrol(pod, object) }
            readSettings(of: pod, object)
            var isNews = pod.settings != pod.record.settings
            // After a start of the agent nothing is known of it.
            if pod.record.plan.capturesDNS, pod.resolver == nil {
                pod.resolver = await expectedResolver(of: object)
                isNews = true
            }
            if isNews { try await tellKeeper(pod) }
            try await prove(pod)
            watchForResolver(pod)
        case (.stayOut(let reason), .capturing):
            log.info("a pod no longer belongs in the mesh", metadata: ["pod": "\(pod.name)", "reason": "\(reason)"])
            try await beginLeaving(pod)
        case (.stayOut, .leaving): try await prove(pod)
        case (.stayOut, .attached), (_, .gone): await report(pod)
        }
    }

    // MARK: Proof and repair

    /// Reads the state of a pod that is or was captured back, and repairs what differs.
    func prove(_ pod: ManagedPod) async throws {
        guard pod.isVerifiable else { return await report(pod) }
        pod.isUnderProof = true
        do {
            let found = try await inspect(pod)
            if !found.isEmpty || isKeeperListed && pod.keeperState == nil { try await repair(pod, found) }
            pod.isProven = pod.record.phase == .capturing
            try await open(pod)
            pod.isUnderProof = false
        } catch {
            pod.isUnderProof = false
            if !pod.isProven { pod.problem = AgentError(error).message }
            await report(pod)
            throw error
        }
        await report(pod)
    }

    /// What differs. With anything that does, or that cannot be known, capture is no longer proven.
    private func inspect(_ pod: ManagedPod) async throws -> [Drift] {
        do {
            let found = try await drift(of: pod)
            guard !found.isEmpty else { return [] }
            let text = found.map(\.description).joined(separator: "; ")
            pod.isProven = false
            pod.problem = text
            log.warning(
                "capture is not as it should be; repairing it", metadata: ["pod": "\(pod.name)", "found": "\(text)"])
            await closeIfWanted(pod)
            return found
        } catch {
            pod.isProven = false
            pod.problem = AgentError(error).message
            await closeIfWanted(pod)
            throw error
        }
    }

    /// Rules first, whether or not there is somebody they lead to: traffic that is refused is better than traffic that goes
    /// past the mesh.
    private func repair(_ pod: ManagedPod, _ found: [Drift]) async throws {
        let (backend, record, namespace) = (backend, pod.record, pod.namespace)
        guard record.phase == .capturing else {
            return try await pool.run { try backend.leave(record.plan, in: namespace.value) }
        }
        if !found.isEmpty { try await pool.run { try backend.apply(record.plan, in: namespace.value) } }
        if found.contains(where: \.isListener), isKeeperConnected {
            // The keeper does not know that its sockets are dead: it makes others for a pod that is new to it.
            try await keeper.remove(uid: record.uid, drain: true)
        }
        try await tellKeeper(pod)
        let left = found.isEmpty ? [] : try await drift(of: pod)
        guard left.isEmpty else {
            throw AgentError(
                .tryAgain, "capture was repaired and is damaged again",
                cause: left.map(\.description).joined(separator: "; "),
                hint: "something else in the pod's namespace may be changing it")
        }
        for drift in found { metrics.repairs.with([drift.reason]).increment() }
        tellOfRepair(pod, found)
    }

    /// Proves every pod now and then, however quiet it is.
    func verifyForever() async {
        while !Task.isCancelled {
            let pause = configuration.verifyInterval * Double.random(in: 0.9...1.1)
            do { try await Task.sleep(for: pause) } catch { return }
            if isKeeperConnected { await compareWithKeeper() }
            for pod in pods.values {
                doubtReport(pod)
                scheduleReconciliation(pod)
            }
            await reassertHostRules()
        }
    }

    // MARK: The keeper

    func keeperSaid(_ event: KeeperEvent) async {
        switch event {
        case .connected:
            isKeeperConnected = true
            metrics.keeperConnected.with([]).set(1)
            log.info("the keeper is there")
            // Those that wait to try again need wait no longer.
            for pod in pods.values {
                pod.reconciliation?.cancel()
                pod.reconciliation = nil
            }
            await compareWithKeeper()
            // Apart from here: what it waits for may wait for the keeper's next event.
            naming?.cancel()
            naming = Task { await nameAll() }
            for pod in pods.values where isOutOfPlace(pod) { scheduleReconciliation(pod) }
        case .disconnected(let reason):
            isKeeperConnected = false
            isKeeperListed = false
            naming?.cancel()
            metrics.keeperConnected.with([]).set(0)
            log.warning("the keeper is away; connecting again", metadata: ["reason": "\(reason)"])
            for pod in pods.values where pod.isInMesh { setKeeperState(pod, nil) }
        case .podStatus(let status):
            guard
                let pod = pods.values.first(where: {
                    $0.record.uid == status.uid && $0.namespace.id.inode == status.netnsInode && $0.isInMesh
                })
            else { return }
            setKeeperState(pod, status.state)
            if status.state == .failed {
                log.warning("ztunnel refuses a pod", metadata: ["pod": "\(pod.name)", "error": "\(status.error)"])
            }
            // The next event does not wait for an API server.
            reportSoon(pod)
        }
    }

    /// Holds the keeper's list against ours. Pods it should have and has not are added by their reconciliation.
    private func compareWithKeeper() async {
        let listed: [KeeperPodStatus]
        do {
            listed = try await keeper.list()
        } catch {
            log.warning("the keeper's list cannot be read", metadata: ["error": "\(error)"])
            return
        }
        isKeeperListed = isKeeperConnected
        let ended = Set(graves.values.map(\.uid))
        var kept: [String: KeeperPodStatus] = [:]
        for status in listed { kept[status.uid] = status }
        for pod in pods.values where pod.isInMesh {
            let status = kept.removeValue(forKey: pod.record.uid)
            setKeeperState(pod, status?.netnsInode == pod.namespace.id.inode ? status?.state : nil)
            scheduleReconciliation(pod)
        }
        for id in graves.keys.sorted() { await settle(id) }
        // Somebody else's, or of an agent whose records are lost: cutting their traffic would be worse than keeping
        // their sockets.
        for status in kept.values where !ended.contains(status.uid) {
            log.warning(
                "the keeper has a pod that the agent does not know",
                metadata: ["uid": "\(status.uid)", "pod": "\(status.namespace)/\(status.name)"])
        }
    }

    // MARK: Status

    func setKeeperState(_ pod: ManagedPod, _ state: KeeperPodStatus.State?) {
        pod.keeperState = state
        guard state != .served else {
            pod.unservedSince = nil
            return
        }
        guard pod.unservedSince == nil else { return }
        pod.unservedSince = ContinuousClock.now
        let id = pod.record.containerID
        let grace = configuration.pendingGrace
        Task { [weak self] in
            // What is left of the agent by then looks at the state as it is by then.
            try? await Task.sleep(for: grace)
            await self?.graceIsOver(id)
        }
    }

    private func graceIsOver(_ id: String) async {
        if let pod = pods[id] { await report(pod) }
    }

    private func wantedReport(_ pod: ManagedPod) -> ManagedPod.Report {
        ManagedPod.Report(state: wantedState(pod), spared: pod.spared.text)
    }

    private func wantedState(_ pod: ManagedPod) -> ManagedPod.Report.State {
        guard pod.record.phase == .capturing else { return .absent }
        // What is mended in a moment is no news: peers would turn to plain text for it.
        if pod.isUnderProof, let state = pod.reported?.state { return state }
        guard pod.isProven else {
            return pod.wasProven ? .degraded(problem: pod.problem) : .pending(problem: pod.problem)
        }
        guard pod.keeperState != .failed else { return .pending(problem: "ztunnel refuses the pod") }
        if pod.keeperState == .served { return .enabled }
        let since = pod.unservedSince ?? ContinuousClock.now
        let isRestart = pod.reported?.state == .enabled && ContinuousClock.now - since < configuration.pendingGrace
        return isRestart ? .enabled : .pending(problem: "no ztunnel serves the pod")
    }

    /// Somebody else may have changed what was reported; what is in the objects by now says so. It is written again then.
    private func doubtReport(_ pod: ManagedPod) {
        guard let reported = pod.reported, let object = object(of: pod.record) else { return }
        if object.metadata.annotations[MeshLabel.redirection] != reported.annotation { pod.reported = nil }
    }

    /// ``report(_:)``, for who does not wait for it.
    func reportSoon(_ pod: ManagedPod) {
        guard pod.reportDue == nil else { return }
        pod.reportDue = Task { if !Task.isCancelled { await self.report(pod) } }
    }

    /// Brings the pod's status in line with its state. Failing is no reason to stop anything: it is tried again soon.
    func report(_ pod: ManagedPod) async {
        await exclusively("report of \(pod.name)") {
            pod.reportDue = nil
            let wanted = self.wantedReport(pod)
            guard pod.reported != wanted else { return }
            var annotations: [String: String] = [:]
            annotations[MeshLabel.sparedConnections] = wanted.spared
            annotations[MeshLabel.redirection] = wanted.annotation
            switch wanted.state {
            case .absent, .enabled: break
            case .pending(let problem), .degraded(let problem):
                annotations[MeshLabel.redirectionProblem] = problem
            }
            do {
                try await self.annotator.annotate(pod.reference, with: annotations)
                pod.reported = wanted
                pod.reportBackoff = ManagedPod.freshReportBackoff
            } catch {
                pod.reported = nil
                self.reportAgain(pod)
                self.log.warning(
                    "a pod's status cannot be written", metadata: ["pod": "\(pod.name)", "error": "\(error)"])
            }
        }
        updateGauges()
    }
}
