import Addressing
import Glibc
import LinuxNetwork
import Netlink

/// The way back of the app's replies: what is marked goes by table 100, which calls every address local.
enum PolicyRouting {
    /// The index of lo, which is the first interface of every network namespace.
    private static let loopback: UInt32 = 1

    static func route(_ family: IPAddress.Family) -> Route {
        Route(
            .local, to: Route.everywhere(family), interface: loopback, table: RedirectionPlan.routeTable,
            scope: family == .v4 ? .host : .universe)
    }

    static func rule(_ family: IPAddress.Family) -> PolicyRule {
        PolicyRule(
            family, priority: RedirectionPlan.rulePriority, mark: Mark.inbound, mask: Mark.mask,
            table: RedirectionPlan.routeTable)
    }

    /// - Parameter isNew: Nothing of it is there, as far as is known; reading is left out then.
    static func establish(
        _ plan: RedirectionPlan, isNew: Bool = false, _ socket: inout RouteSocket
    ) throws(NetlinkError) {
        // A route over an interface that is down is refused, and capture itself leads to lo.
        if try loopbackIsDown(&socket) { try socket.setUp(loopback) }
        for family in plan.orderedFamilies {
            let lacksRoute = if isNew { true } else { try !hasRoute(family, &socket) }
            if lacksRoute { try socket.add(route(family), existing: .replace) }
            let lacksRule = if isNew { true } else { try !hasRule(family, &socket) }
            if lacksRule {
                do throws(NetlinkError) {
                    try socket.add(rule(family))
                } catch {
                    guard error.code == EEXIST else { throw error }
                }
            }
        }
    }

    static func drift(_ plan: RedirectionPlan, _ socket: inout RouteSocket) throws(NetlinkError) -> [Drift] {
        var found: [Drift] = try loopbackIsDown(&socket) ? [.loopbackDown] : []
        for family in plan.orderedFamilies {
            if try !hasRoute(family, &socket) { found.append(.routeMissing(family)) }
            if try !hasRule(family, &socket) { found.append(.policyRuleMissing(family)) }
        }
        return found
    }

    /// Whether capture was set up here before, in either family.
    static func isPresent(_ socket: inout RouteSocket) throws(NetlinkError) -> Bool {
        for family in IPAddress.Family.allCases where try hasRule(family, &socket) { return true }
        return false
    }

    /// Takes both families' parts away, whatever the plan was. Rules first: a rule without its route is harmless,
    /// but the other way round a marked packet would be looked up in the tables after it.
    static func remove(_ socket: inout RouteSocket) throws(NetlinkError) {
        for family in IPAddress.Family.allCases {
            do throws(NetlinkError) {
                while try hasRule(family, &socket) { try socket.delete(rule(family)) }
                if try hasRoute(family, &socket) { try socket.delete(route(family)) }
            } catch {
                // Gone in between, or the family is not in this kernel.
                guard [ESRCH, ENOENT, EAFNOSUPPORT, EOPNOTSUPP].contains(error.code) else { throw error }
            }
        }
    }

    private static func loopbackIsDown(_ socket: inout RouteSocket) throws(NetlinkError) -> Bool {
        try socket.link(named: "lo")?.isUp == false
    }

    private static func hasRoute(
        _ family: IPAddress.Family, _ socket: inout RouteSocket
    ) throws(NetlinkError) -> Bool {
        let wanted = route(family)
        return try socket.routes(family, table: wanted.table).contains {
            $0.kind == wanted.kind && $0.destination == wanted.destination && $0.interface == wanted.interface
        }
    }

    private static func hasRule(
        _ family: IPAddress.Family, _ socket: inout RouteSocket
    ) throws(NetlinkError) -> Bool {
        try socket.rules(family).contains(rule(family))
    }
}
