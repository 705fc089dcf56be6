import Addressing
import Logging
import ObjectSource
import Redirection

/// The node's own rules, by which kubelet's probes get past policy and nothing else does.
extension NodeAgent {
    // MARK: Of one pod

    /// A pod's plan with what its probes need, as far as the node's rules stand: the address of probes is exempt in a
    /// pod only while nobody else can use it.
    func exempting(_ plan: RedirectionPlan, _ pod: ManagedPod, _ object: Pod) async -> RedirectionPlan {
        var plan = plan
        plan.probePorts = []
        plan.exemptsEveryProbePort = false
        let wanted = wantedProbes(plan, object)
        guard !wanted.ports.isEmpty || wanted.everyPort else {
            await releaseProbes(of: pod)
            return plan
        }
        hostProbes.claim(pod.record.containerID, Self.addresses(of: pod), wanted.ports)
        await establishHostRules()
        guard hostProbes.applied != nil else { return plan }
        plan.probePorts = wanted.ports
        plan.exemptsEveryProbePort = wanted.everyPort
        return plan
    }

    func hasOtherProbes(_ pod: ManagedPod, _ object: Pod) -> Bool {
        let plan = pod.record.plan
        let wanted = wantedProbes(plan, object)
        return plan.probePorts != wanted.ports || plan.exemptsEveryProbePort != wanted.everyPort
    }

    func releaseProbes(of pod: ManagedPod) async {
        if hostProbes.release(pod.record.containerID) { await establishHostRules() }
    }

    private func wantedProbes(_ plan: RedirectionPlan, _ object: Pod) -> (ports: [UInt16], everyPort: Bool) {
        // Without inbound capture there is nothing to be exempt from.
        guard plan.capturesInbound else { return ([], false) }
        return switch configuration.probeExemption {
        case .kubelet: (object.spec.probePorts, false)
        case .istio: ([], true)
        case .off: ([], false)
        }
    }

    private static func addresses(of pod: ManagedPod) -> [IPAddress] {
        pod.record.addresses.compactMap { IPAddress($0.prefix { $0 != "/" })?.canonical }
    }

    // MARK: Of the node

    /// Takes over what an agent before this one has exempted, and takes away what nobody needs any more.
    func adoptProbes() async {
        let exempt = pods.values.filter {
            $0.record.phase == .capturing
                && (!$0.record.plan.probePorts.isEmpty || $0.record.plan.exemptsEveryProbePort)
        }
        if configuration.probeExemption != .off {
            hostProbes.adopt(exempt.map { ($0.record.containerID, Self.addresses(of: $0), $0.record.plan.probePorts) })
        }
        await reassertHostRules()
    }

    /// Compares the node's rules with what they should be and repairs what differs. To be called on every doubt; does
    /// nothing when all is well, and never fails: what does is logged, counted, and tried again with the next proof.
    func reassertHostRules() async {
        await exclusively("the node's rules") {
            await self.findKubelet()
            await self.makeHostRulesHold()
        }
    }

    /// As ``reassertHostRules()``, but trusts what was done before: after a change of who may be probed.
    private func establishHostRules() async {
        await exclusively("the node's rules") {
            // Several pods that come at once need one change.
            guard self.hostProbes.applied != self.wantedHostRules else { return }
            if self.hostProbes.cgroup == nil { await self.findKubelet() }
            await self.makeHostRulesHold()
        }
    }

    private var wantedHostRules: HostProbePlan {
        HostProbePlan(
            configuration.probeExemption == .istio ? .anySocket : .kubelet(hostProbes.cgroup),
            destinations: hostProbes.destinations)
    }

    private func makeHostRulesHold() async {
        let wanted = wantedHostRules
        let node = nodeNetwork
        do {
            let found = try await pool.run { try node.within { try HostProbeRules.apply(wanted) } }
            // After a change of what is wanted, differences are no drift.
            if hostProbes.applied == wanted, !found.isEmpty {
                log.warning(
                    "the node's rules for probes were not as they should be; repaired",
                    metadata: ["found": "\(found.map(\.description).joined(separator: "; "))"])
                for drift in found { metrics.repairs.with([drift.reason]).increment() }
            }
            hostProbes.applied = wanted
        } catch {
            hostProbes.applied = nil
            metrics.failures.with([]).increment()
            log.warning(
                "the node's rules for probes cannot be made; probes are subject to policy",
                metadata: ["error": "\(error)"])
        }
        await makeBranchRulesHold(for: Set(hostProbes.applied.map { Array($0.destinations.keys) } ?? []))
    }

    /// Looks for kubelet's cgroup, where somebody needs it.
    private func findKubelet() async {
        guard configuration.probeExemption == .kubelet, !hostProbes.destinations.isEmpty else { return }
        let path = configuration.kubeletCgroup
        let process = configuration.nodeProcess ?? "/proc/thread-self"
        let problem: String?
        do {
            hostProbes.cgroup = try await pool.run { try KubeletCgroup.find(path, node: process) }
            problem = nil
        } catch {
            hostProbes.cgroup = nil
            problem = "\(AgentError(error))"
        }
        if let problem, problem != hostProbes.problem {
            log.warning(
                "kubelet's probes cannot be told from other traffic; they are subject to policy",
                metadata: ["error": "\(problem)"])
        }
        hostProbes.problem = problem
    }

    /// Sees to it that the rules follow kubelet when it comes, or comes back in another cgroup.
    func keepHostRules() async {
        while !Task.isCancelled {
            let pause = configuration.kubeletInterval * Double.random(in: 0.9...1.1)
            do { try await Task.sleep(for: pause) } catch { return }
            await exclusively("the node's rules") {
                await self.findKubelet()
                guard let applied = self.hostProbes.applied, applied != self.wantedHostRules else { return }
                await self.makeHostRulesHold()
            }
        }
    }
}
