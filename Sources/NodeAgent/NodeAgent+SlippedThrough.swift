import Addressing
import LinuxNetwork
import ObjectSource

/// Pods that belong in the mesh and run on this node without the agent ever having had their ADD: started before the
/// plugin was in the chain, or past it. They are found by the machine's processes and taken in.
extension NodeAgent {
    static let slippedThroughReason = "StartedOutsideMesh"

    /// Runs until the task is cancelled.
    func takeInWhatSlippedThrough() async {
        var backoff = Self.freshScanBackoff
        var marked: Set<PodReference> = []
        while let suspects = await nextSuspects(unless: &marked) {
            // Cancelled with the agent; the loop's condition sees it.
            try? await Task.sleep(for: configuration.slipGrace)
            guard !Task.isCancelled else { return }
            let slipped = slippedThrough(in: source.snapshot()).filter { suspects.contains(PodReference($0)) }
            // Sockets come first, and the keeper makes them.
            guard !slipped.isEmpty, isKeeperConnected else { continue }
            let left = await takeIn(slipped)
            await mark(left, &marked)
            guard !left.isEmpty else {
                backoff = Self.freshScanBackoff
                continue
            }
            try? await Task.sleep(for: backoff.next())
        }
    }

    private static var freshScanBackoff: Backoff { Backoff(shortest: .seconds(1), longest: .seconds(30)) }

    /// Running pods of this node that belong in the mesh and are not in the agent's care.
    /// - Parameter names: Whom to look at; `nil`: all.
    private func slippedThrough(in snapshot: ObjectSnapshot, among names: Set<ObjectName>? = nil) -> [Pod] {
        let candidates = names.map { $0.compactMap { snapshot.pods[$0] } } ?? Array(snapshot.pods.values)
        let running = candidates.filter { pod in
            guard pod.spec.nodeName == configuration.nodeName, pod.status.phase == .running,
                !pod.status.podIPs.isEmpty, pod.metadata.deletionTimestamp == nil
            else { return false }
            let labels = snapshot.namespaces[pod.metadata.namespace]?.metadata.labels ?? [:]
            return rules.decide(pod, namespaceLabels: labels) == .enrol
        }
        guard !running.isEmpty else { return [] }
        let asked = Set(running.map(\.name))
        var known: [ObjectName: [String]] = [:]
        for pod in pods.values where pod.record.phase != .gone && asked.contains(pod.name) {
            known[pod.name, default: []].append(pod.record.objectUID)
        }
        return running.filter { pod in !(known[pod.name] ?? []).contains { Self.mayBe(pod, uid: $0) } }
    }

    /// Waits until there are any.
    /// - Returns: `nil` when the agent ends.
    private func nextSuspects(unless marked: inout Set<PodReference>) async -> Set<PodReference>? {
        var last: (snapshot: ObjectSnapshot, burials: Int)?
        for await snapshot in source.snapshots() {
            // Of those that were none at the last look, only who has changed can be one now.
            var names: Set<ObjectName>?
            if let last, last.burials == burials, last.snapshot.namespaces == snapshot.namespaces {
                names = snapshot.pods.difference(from: last.snapshot.pods)
            }
            last = (snapshot, burials)
            let found = Set(slippedThrough(in: snapshot, among: names).map(PodReference.init))
            if !found.isEmpty { return found }
            await mark([], &marked)
        }
        return nil
    }

    // MARK: Taking in

    /// - Returns: Those that could not be found.
    private func takeIn(_ slipped: [Pod]) async -> Set<PodReference> {
        let wanted = slipped.filter { !$0.metadata.uid.isEmpty }.map { pod in
            NamespaceScan.Wanted(
                uid: pod.metadata.uid.lowercased(),
                addresses: Set(pod.status.podIPs.compactMap { IPAddress($0)?.canonical }))
        }
        var scan = NamespaceScan(hosts: hostNamespaces, claimed: Set(claims.keys))
        scan.proc = configuration.processFolder
        let result: NamespaceScan.Result
        do {
            result = try await lookups.run { [scan] in try scan.run(wanted) }
        } catch {
            log.error(
                "pods run outside the mesh, and the node's processes cannot be searched for them",
                metadata: ["pods": "\(slipped.count)", "error": "\(AgentError(error))"])
            return Set(slipped.map(PodReference.init))
        }
        var left: Set<PodReference> = []
        for pod in slipped {
            let uid = pod.metadata.uid.lowercased()
            if let found = result.found[uid] {
                await adopt(pod, found)
            } else {
                let reason = result.refusals[uid] ?? "its object has no uid"
                log.error(
                    "a pod runs outside the mesh and cannot be taken in",
                    metadata: ["pod": "\(pod.name)", "uid": "\(uid)", "reason": "\(reason)"])
                await record(pod, "The pod belongs in the mesh and runs outside it; it cannot be taken in: \(reason).")
                left.insert(PodReference(pod))
            }
        }
        return left
    }

    private func adopt(_ object: Pod, _ found: NamespaceScan.Found) async {
        let id = found.containerID
        await exclusively(id) {
            // An ADD may have come since.
            guard self.claims[found.namespace.id] == nil, self.pods[id] == nil else { return }
            let pod = ManagedPod(
                PodRecord(
                    containerID: id, networkName: "", interfaces: [], netnsPath: found.path,
                    namespaceID: found.namespace.id, uid: object.metadata.uid, objectUID: object.metadata.uid,
                    podName: object.metadata.name, podNamespace: object.metadata.namespace,
                    serviceAccount: object.spec.serviceAccountName, addresses: object.status.podIPs), found.namespace)
            self.graves[id] = nil
            self.pods[id] = pod
            self.claims[found.namespace.id] = id
            self.metrics.slippedThrough.with([]).increment()
            self.log.warning(
                "a pod was started outside the mesh and is taken in now",
                metadata: ["pod": "\(pod.name)", "container": "\(id)", "namespace": "\(found.namespace.id)"])
            do {
                try await self.enrol(pod, object)
            } catch {
                self.metrics.failures.with([]).increment()
                self.log.warning(
                    "a pod is not taken in yet", metadata: ["pod": "\(pod.name)", "error": "\(AgentError(error))"])
                self.scheduleReconciliation(pod)
            }
        }
        await record(
            object,
            "The pod was started while the mesh's CNI plugin was not in the chain. It is in the mesh now; what it sent "
                + "before was not protected.")
        updateGauges()
    }

    private func record(_ pod: Pod, _ message: String) async {
        do {
            try await events?.record(
                PodEvent(PodReference(pod), reason: Self.slippedThroughReason, message: message))
        } catch {
            log.warning("an event cannot be written", metadata: ["pod": "\(pod.name)", "error": "\(error)"])
        }
    }

    /// Reports pods that cannot be found as `pending`, and takes that back from those that are no longer such.
    private func mark(_ left: Set<PodReference>, _ marked: inout Set<PodReference>) async {
        metrics.outside.with([]).set(Int64(left.count))
        for pod in left.symmetricDifference(marked) {
            let isOutside = left.contains(pod)
            // What is in the agent's care has its own report.
            if !isOutside, pods.values.contains(where: { $0.name == pod.name }) {
                marked.remove(pod)
                continue
            }
            do {
                try await annotator.annotate(
                    pod, with: isOutside ? [MeshLabel.redirection: MeshLabel.redirectionPending] : [:])
                if isOutside { marked.insert(pod) } else { marked.remove(pod) }
            } catch {
                log.warning("a pod's status cannot be written", metadata: ["pod": "\(pod.name)", "error": "\(error)"])
            }
        }
    }

    // MARK: Their end

    /// A pod that was taken in may never get its DEL: the runtime may know its sandbox by another name. It is over when
    /// it has no object any more and no process is left in its namespace. Runs until the task is cancelled.
    func forgetWhatWasTakenIn() async {
        let all = NamespaceProcesses(proc: configuration.processFolder, oldest: .zero)
        while !Task.isCancelled {
            // Ends early with the agent; the loop sees it.
            try? await Task.sleep(for: configuration.verifyInterval)
            for candidate in pods.values where candidate.record.interfaces.isEmpty && isWithoutObject(candidate) {
                let namespace = candidate.namespace.id
                // Whoever cannot be seen may be there still; a pool that has stopped is the agent's end.
                let processes = try? await lookups.run { try all.processes(of: namespace) }
                guard processes?.isEmpty == true else { continue }
                let id = candidate.record.containerID
                await exclusively(id) {
                    guard let pod = self.pods[id], pod === candidate else { return }
                    await self.bury(pod)
                }
            }
        }
    }

    private func isWithoutObject(_ pod: ManagedPod) -> Bool {
        object(of: pod.record).map { $0.status.phase?.isTerminal == true } ?? true
    }
}
