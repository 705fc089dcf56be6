import Addressing
import CNI
import Foundation
import Handover
import LinuxNetwork
import Netlink
import ObjectSource
import Redirection

/// The verbs of the CNI plugin.
extension NodeAgent {
    /// Answers one call. Never fails: what goes wrong is in the reply.
    public func answer(_ call: CNICall) async -> CNIReply {
        let reply: CNIReply
        do {
            switch call.request.verb {
            case .add: try await add(call)
            case .delete: await delete(call)
            case .check: try await check(call)
            case .status: try status()
            case .gc: await collectGarbage(call.request)
            }
            reply = CNIReply()
        } catch {
            let failure = AgentError(error)
            reply =
                call.request.verb == .status
                ? CNIReply(
                    code: CNIError.Code.notAvailable.rawValue, message: failure.message, details: failure.details)
                : failure.reply
            log.warning(
                "a CNI call failed",
                metadata: [
                    "verb": "\(call.request.verb)", "container": "\(call.request.containerID)",
                    "pod": "\(call.request.podNamespace)/\(call.request.podName)", "error": "\(failure)",
                ])
        }
        metrics.calls.with(["\(call.request.verb)", "\(reply.code)"]).increment()
        return reply
    }

    // MARK: ADD

    private func add(_ call: CNICall) async throws {
        let request = call.request
        try Self.checkFields(request)
        let namespace = try Self.namespace(of: call)
        if rules.exemptNamespaces.contains(request.podNamespace) { return }
        guard !hostNamespaces.contains(namespace.id) else {
            throw AgentError(
                .invalidNamespace, "CNI_NETNS is the node's own network namespace, not a pod's",
                cause: "\(namespace.id)", hint: "pods of the host network are not part of the mesh")
        }
        try await checkOwnership(of: namespace, request.addresses)
        guard let object = await object(for: request) else {
            // Should its namespace be labelled later, it is found as one that runs outside the mesh.
            if isOutOfQuestion(request) { return }
            throw unknown(request)
        }
        try await exclusively(request.containerID) {
            try await self.attach(request, namespace, object)
        }
    }

    private func attach(_ request: CNIRequest, _ namespace: SharedNamespace, _ object: Pod) async throws {
        if let owner = claims[namespace.id], owner != request.containerID {
            throw AgentError(
                .invalidNamespace, "CNI_NETNS belongs to another pod",
                cause: "\(namespace.id) is the namespace of container \(owner)")
        }
        let known = pods[request.containerID]
        if let known, known.namespace.id != namespace.id { await bury(known) }
        // A new sandbox of the same pod takes the old one's place, whose DEL may still be on its way.
        let uid = [request.podUID, object.metadata.uid].first { !$0.isEmpty } ?? request.containerID
        for other in pods.values where other.record.uid == uid && other.record.containerID != request.containerID {
            await exclusively(other.record.containerID) { await self.bury(other, tellKeeper: false) }
        }
        graves[request.containerID] = nil
        let pod: ManagedPod
        let isNew: Bool
        if let still = pods[request.containerID] {
            pod = still
            isNew = false
        } else {
            pod = ManagedPod(
                PodRecord(
                    containerID: request.containerID, networkName: request.networkName, interfaces: [],
                    netnsPath: request.netnsPath, namespaceID: namespace.id, uid: uid,
                    objectUID: object.metadata.uid, podName: request.podName, podNamespace: request.podNamespace,
                    serviceAccount: object.spec.serviceAccountName, addresses: []), namespace)
            // So that a pod that never was in the mesh is not written to when it ends.
            pod.reported = reportedState(of: pod.record)
            isNew = true
        }
        if !pod.record.interfaces.contains(request.interfaceName) {
            pod.record.interfaces.append(request.interfaceName)
        }
        pod.record.addresses = request.addresses
        pods[request.containerID] = pod
        claims[namespace.id] = request.containerID
        await listen(to: pod)
        do {
            if decide(object) == .enrol {
                try await enrol(pod, object)
            } else {
                try await save(pod)
            }
        } catch {
            tellOfFailure(PodReference(object), error)
            // The runtime will see to it that nothing is left: it calls DEL, or ADD again. Until then there must be no
            // rules that lead to sockets nobody has.
            if isNew { await bury(pod) }
            throw error
        }
        // The object may be another by now, and was not held against what was under way.
        if isOutOfPlace(pod) { scheduleReconciliation(pod) }
        updateGauges()
    }

    private static func checkFields(_ request: CNIRequest) throws(AgentError) {
        guard PodRecord.isContainerID(request.containerID) else {
            throw AgentError(.invalidRequest, "CNI_CONTAINERID is not a valid container ID")
        }
        guard !request.interfaceName.isEmpty, request.interfaceName.utf8.count <= 15 else {
            throw AgentError(.invalidRequest, "CNI_IFNAME is missing or longer than 15 bytes")
        }
        guard !request.podName.isEmpty, !request.podNamespace.isEmpty else {
            throw AgentError(
                .invalidRequest, "CNI_ARGS names no pod", cause: "K8S_POD_NAME or K8S_POD_NAMESPACE is missing")
        }
    }

    private static func namespace(of call: CNICall) throws(AgentError) -> SharedNamespace {
        switch call.namespace {
        case .success(let namespace): return namespace
        case .failure(let error):
            throw AgentError(
                .invalidNamespace, "CNI_NETNS is not a network namespace", cause: error.description,
                hint: "path \(call.request.netnsPath)")
        case nil:
            throw AgentError(.invalidNamespace, "the request carries no network namespace")
        }
    }

    /// A namespace that has none of the addresses that the plugin before us gave the pod is not the pod's.
    private func checkOwnership(of namespace: SharedNamespace, _ addresses: [String]) async throws {
        var wanted: Set<IPAddress> = []
        for text in addresses {
            let host = text.split(separator: "/", maxSplits: 1).first ?? ""
            guard let address = IPAddress(host) else {
                throw AgentError(.invalidRequest, "prevResult has the address \"\(text)\", which is none")
            }
            wanted.insert(address.canonical)
        }
        // Without a plugin before us nobody has said which addresses to expect.
        guard !wanted.isEmpty else { return }
        let present = try await pool.run {
            try namespace.value.run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                return Set(try routes.addresses().map(\.address.canonical))
            }
        }
        guard !present.isDisjoint(with: wanted) else {
            throw AgentError(
                .invalidNamespace, "CNI_NETNS has none of the pod's addresses",
                cause: "\(namespace.id) lacks \(addresses.joined(separator: ", "))",
                hint: "the plugin before apus-cni must have configured this namespace")
        }
    }

    /// The pod's object, waited for a while: the runtime may be ahead of the source of objects.
    private func object(for request: CNIRequest) async -> Pod? {
        let name = ObjectName(namespace: request.podNamespace, name: request.podName)
        let needsNamespace = configuration.namespacesAreObjects
        @Sendable func find(in snapshot: ObjectSnapshot) -> Pod? {
            if needsNamespace, snapshot.namespaces[name.namespace] == nil { return nil }
            return snapshot.pods[name].flatMap { Self.mayBe($0, uid: request.podUID) ? $0 : nil }
        }
        let now = source.snapshot()
        if let pod = find(in: now) {
            // Labels of the namespace count as of the same moment.
            objects = now
            return pod
        }
        if isOutOfQuestion(request) { return nil }
        let source = source
        let wait = configuration.objectWait
        let found = await withTaskGroup(of: ObjectSnapshot?.self) { group in
            group.addTask {
                for await snapshot in source.snapshots() where find(in: snapshot) != nil { return snapshot }
                return nil
            }
            group.addTask {
                // Cancelled when the object is there first.
                try? await Task.sleep(for: wait)
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
        guard let found else { return nil }
        objects = found
        return find(in: found)
    }

    /// Whether the pod cannot belong in the mesh, whatever its labels turn out to be.
    private func isOutOfQuestion(_ request: CNIRequest) -> Bool {
        guard let namespace = source.snapshot().namespaces[request.podNamespace] else { return false }
        return !rules.mayEnrol(inNamespace: request.podNamespace, labels: namespace.metadata.labels)
    }

    private func unknown(_ request: CNIRequest) -> AgentError {
        let health = source.health
        var cause = "no such object within \(configuration.objectWait)"
        if let problem = health.problem {
            let since = health.lastContact.map { Date(timeIntervalSince1970: Double($0)).formatted(.iso8601) }
            cause += "; the API server was last heard from \(since.map { "at \($0)" } ?? "never"): \(problem)"
        } else if !health.isSynced {
            cause += "; the objects have not been read yet"
        }
        return AgentError(
            .tryAgain, "the pod \(request.podNamespace)/\(request.podName) is not known yet", cause: cause,
            hint: "check that the agent's source of objects is up to date")
    }

    // MARK: CHECK and STATUS

    private func check(_ call: CNICall) async throws {
        let request = call.request
        if rules.exemptNamespaces.contains(request.podNamespace) { return }
        let namespace = try Self.namespace(of: call)
        try await exclusively(request.containerID) {
            guard let pod = self.pods[request.containerID] else {
                throw AgentError(.unknownPod, "container \(request.containerID) is not known to the agent")
            }
            guard pod.namespace.id == namespace.id else {
                throw AgentError(
                    .invalidNamespace, "CNI_NETNS is not the namespace the container was added with",
                    cause: "\(namespace.id), not \(pod.namespace.id)")
            }
            guard pod.record.phase == .capturing else {
                if self.decision(for: pod) == .enrol {
                    throw AgentError(.drift, "the pod belongs in the mesh and is not captured yet")
                }
                return
            }
            var wrong = try await self.drift(of: pod).map(\.description)
            let kept = try await self.keeper.list().first { $0.uid == pod.record.uid }
            if kept == nil {
                wrong.append("the keeper has no sockets of the pod")
            } else if kept?.netnsInode != pod.namespace.id.inode {
                wrong.append("the keeper's sockets are in another namespace")
            }
            guard wrong.isEmpty else {
                self.scheduleReconciliation(pod)
                throw AgentError(
                    .drift, "the pod's capture is not as it should be: \(wrong[0])",
                    cause: wrong.joined(separator: "; "), hint: "the agent repairs it")
            }
        }
    }

    private func status() throws(AgentError) {
        guard isKeeperConnected else {
            throw AgentError(
                .tryAgain, "the keeper is not there", cause: "no connection to \(configuration.keeperSocket)",
                hint: "check that apus-sockets runs on this node")
        }
    }

    // MARK: DEL and GC

    private func delete(_ call: CNICall) async {
        let request = call.request
        guard PodRecord.isContainerID(request.containerID) else { return }
        await exclusively(request.containerID) {
            guard let pod = self.pods[request.containerID] else {
                await self.clean(call)
                return
            }
            await self.detach(pod, request.interfaceName)
        }
        updateGauges()
    }

    private func detach(_ pod: ManagedPod, _ interface: String) async {
        pod.record.interfaces.removeAll { $0 == interface }
        if pod.record.interfaces.isEmpty || interface.isEmpty {
            await bury(pod)
        } else {
            do {
                try await save(pod)
            } catch {
                log.warning("a record was not written", metadata: ["pod": "\(pod.name)", "error": "\(error)"])
            }
        }
    }

    /// DEL of a container that has no record: what an ADD that broke off may have left goes all the same.
    private func clean(_ call: CNICall) async {
        if case .success(let namespace) = call.namespace, claims[namespace.id] == nil,
            !hostNamespaces.contains(namespace.id)
        {
            let backend = backend
            do {
                try await pool.run { try backend.remove(in: namespace.value) }
            } catch {
                log.warning(
                    "capture was not taken away at DEL of a container that is not known",
                    metadata: ["container": "\(call.request.containerID)", "error": "\(error)"])
            }
        }
    }

    private func collectGarbage(_ request: CNIRequest) async {
        let valid = Set(request.validAttachments)
        let candidates = pods.values.filter { $0.record.networkName == request.networkName }
        for candidate in candidates {
            let id = candidate.record.containerID
            await exclusively(id) {
                guard let pod = self.pods[id] else { return }
                for interface in pod.record.interfaces
                where !valid.contains(.init(containerID: id, interfaceName: interface)) {
                    await self.detach(pod, interface)
                }
            }
        }
        updateGauges()
    }
}

extension AgentError {
    /// Gives any error the agent's form.
    init(_ error: any Error) {
        switch error {
        case let error as AgentError: self = error
        case let error as RedirectionError:
            self.init(.kernel, error.message, cause: error.cause ?? "", hint: error.hint ?? "")
        case let error as NetlinkError:
            self.init(.kernel, "the kernel refused", cause: error.description, hint: Self.hint(for: error.code))
        case let error as SystemError:
            self.init(.kernel, "the kernel refused", cause: error.description, hint: Self.hint(for: error.code))
        case is CancellationError: self.init(.tryAgain, "it took too long, or the agent is ending")
        default: self.init(.kernel, "\(error)")
        }
    }
}
