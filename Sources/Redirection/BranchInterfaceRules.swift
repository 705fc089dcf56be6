import Addressing
import Glibc
import LinuxNetwork
import Netlink

/// The node's way to pods that have a network interface of their own in the cloud, and back: AWS's "security groups for
/// pods", where a pod's traffic passes a branch interface and, by a rule for the pod's link, a table of its own.
///
/// That rule leads the pod's answers to probes out to the cloud, since they go to an address that only the node knows; and
/// the node's main table does not lead to the pod. Two rules for each pod mend both, as Istio's do: what goes to the pod is
/// looked up in its table, and what comes from it in the table of local addresses first.
///
/// All functions work in the namespace of the calling thread, and block.
public enum BranchInterfaceRules {
    /// Of the rules that lead to pods; Istio's. AWS's plugin has rules here as well, to table main.
    public static let priority: UInt32 = 512

    /// Whether AWS's plugin has set this node up for such pods: it switches off the short cut by which the kernel would
    /// take their packets past the rules.
    public static func isPlatform() -> Bool { earlyDemux.read() == "0" }

    private static let earlyDemux = KernelSetting(path: "/proc/sys/net/ipv4/tcp_early_demux")

    /// Sees to it that probes reach those of the addresses that are behind a branch interface, and takes away what is left
    /// of others. Doing it again changes nothing.
    /// - Returns: What was missing.
    @discardableResult
    public static func apply(_ addresses: some Sequence<IPAddress>) throws(RedirectionError) -> [Drift] {
        do throws(NetlinkError) {
            var routes = try RouteSocket()
            let links = try routes.links()
            var found: [Drift] = []
            for family in IPAddress.Family.allCases {
                let present = try routes.rules(family)
                var wanted: [PolicyRule] = []
                for address in addresses where address.family == family {
                    guard let branch = try branch(of: address, present, links, &routes) else { continue }
                    let missing = branch.filter { !present.contains($0) }
                    try add(missing, &routes)
                    found += missing.map { _ in .policyRuleMissing(family) }
                    wanted += branch
                }
                for rule in present where isOurs(rule, present, links) && !wanted.contains(rule) {
                    try delete(rule, &routes)
                }
            }
            return found
        } catch {
            throw RedirectionError(error, "cannot set up the node's way to pods on branch interfaces")
        }
    }

    /// The two rules of an address; `nil` where it is not behind a branch interface.
    private static func branch(
        of address: IPAddress, _ rules: [PolicyRule], _ links: [Link], _ routes: inout RouteSocket
    ) throws(NetlinkError) -> [PolicyRule]? {
        for rule in rules {
            guard let name = rule.inputInterface, let table = rule.table, isOwnTable(table), rule.priority > 1,
                let link = links.first(where: { $0.name == name })
            else { continue }
            let leadsThere = try routes.routes(address.family, table: table).contains {
                $0.destination == CIDR(address) && $0.interface == link.index
            }
            guard leadsThere else { continue }
            return [
                PolicyRule(address.family, priority: priority, destination: CIDR(address), table: table),
                PolicyRule(
                    address.family, priority: rule.priority - 1, inputInterface: name, table: Route.localTable),
            ]
        }
        return nil
    }

    /// A table that is none of the kernel's own (default, main, local).
    private static func isOwnTable(_ table: UInt32) -> Bool { table != 0 && !(253...255).contains(table) }

    /// Whether it is one of the two for some pod, by all its parts.
    private static func isOurs(_ rule: PolicyRule, _ rules: [PolicyRule], _ links: [Link]) -> Bool {
        guard let table = rule.table else { return false }
        if let destination = rule.destination {
            let plain = PolicyRule(rule.family, priority: priority, destination: destination, table: table)
            return rule == plain && destination.length == destination.base.bitWidth && isOwnTable(table)
        }
        guard let name = rule.inputInterface, table == Route.localTable else { return false }
        guard rule == PolicyRule(rule.family, priority: rule.priority, inputInterface: name, table: table) else {
            return false
        }
        // Behind it stands the plugin's own rule, or did until the link went.
        let isFollowed = rules.contains { other in
            other.priority == rule.priority + 1 && other.inputInterface == name && other.table.map(isOwnTable) ?? false
        }
        return isFollowed || !links.contains { $0.name == name }
    }

    /// Both or none: one alone leads probes somewhere from where no answer comes.
    private static func add(_ rules: [PolicyRule], _ routes: inout RouteSocket) throws(NetlinkError) {
        var added: [PolicyRule] = []
        for rule in rules {
            do throws(NetlinkError) {
                try routes.add(rule)
                added.append(rule)
            } catch {
                // Somebody was faster.
                if error.code == EEXIST { continue }
                for rule in added { try delete(rule, &routes) }
                throw error
            }
        }
    }

    private static func delete(_ rule: PolicyRule, _ routes: inout RouteSocket) throws(NetlinkError) {
        do throws(NetlinkError) {
            try routes.delete(rule)
        } catch {
            guard error.code == ENOENT else { throw error }
        }
    }
}
