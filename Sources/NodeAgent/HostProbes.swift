import Addressing
import Redirection

/// What of the node's own traffic reaches enrolled pods past policy.
public enum ProbeExemption: String, Hashable, Sendable, CaseIterable {
    /// kubelet's connections, told by its cgroup, to the ports that the pod's own probes and hooks name.
    case kubelet
    /// Every process of the node, to every port: Istio's rules.
    case istio
    /// Nothing.
    case off
}

/// Which pod may be probed where: what the node's rules should hold, and what they were last made to hold.
struct HostProbes {
    private struct Claim {
        let addresses: [IPAddress]
        let ports: Set<UInt16>
        let turn: Int
    }

    /// By container ID.
    private var claims: [String: Claim] = [:]
    private var turn = 0
    /// What the node's rules were last made to hold; `nil` when that is not known.
    var applied: HostProbePlan?
    /// kubelet's cgroup as last looked for.
    var cgroup: SocketCgroup?
    /// What was last said of it, so that it is said once.
    var problem: String?

    /// A pod that comes takes its addresses over from whoever had them.
    mutating func claim(_ id: String, _ addresses: [IPAddress], _ ports: [UInt16]) {
        turn += 1
        claims[id] = Claim(addresses: addresses, ports: Set(ports), turn: turn)
    }

    /// Pods whose order is not known: what several of them claim belongs to none of them.
    mutating func adopt(_ pods: [(id: String, addresses: [IPAddress], ports: [UInt16])]) {
        turn += 1
        for pod in pods { claims[pod.id] = Claim(addresses: pod.addresses, ports: Set(pod.ports), turn: turn) }
    }

    /// - Returns: Whether it had a claim.
    mutating func release(_ id: String) -> Bool { claims.removeValue(forKey: id) != nil }

    /// Who may be probed where.
    var destinations: [IPAddress: Set<UInt16>] {
        var latest: [IPAddress: (turn: Int, ports: Set<UInt16>?)] = [:]
        for claim in claims.values {
            for address in Set(claim.addresses) {
                switch latest[address] {
                case let other? where other.turn > claim.turn: break
                case let other? where other.turn == claim.turn: latest[address] = (claim.turn, nil)
                default: latest[address] = (claim.turn, claim.ports)
                }
            }
        }
        return latest.compactMapValues(\.ports)
    }
}
