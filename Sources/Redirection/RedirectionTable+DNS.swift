import LinuxNetwork
import Netlink

/// The rules for DNS.
extension RedirectionTable {
    private static let port: UInt16 = 53

    /// What ztunnel asks the name servers is kept apart from what the app asks: both may go from the same port to the same
    /// server, and the app's is translated to lead here (istio#33469).
    private static let zone: UInt16 = 1

    /// Queries go to the proxy. Not those to the pod itself, where a resolver of its own may be, which asks through the
    /// proxy. Over UDP, where the message can be seen, only what is a query: an update or a notification is meant for the
    /// server it is sent to (istio#55962).
    static func dnsCaptures(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        let datagrams = plan.orderedFamilies.map { family in
            rule("capture DNS over UDP") {
                $0.family(family)
                $0.outputInterface("lo", .notEqual)
                $0.udp()
                $0.destinationPort(.equal, port)
                $0.unlessOwn(plan)
                $0.dnsQuery()
                $0.counter()
                $0.redirect(to: ZtunnelPort.dns)
            }
        }
        let streams = plan.orderedFamilies.map { family in
            rule("capture DNS over TCP") {
                $0.family(family)
                $0.destination(.notEqual, loopback(family))
                $0.tcp()
                $0.destinationPort(.equal, port)
                $0.unlessOwn(plan)
                $0.counter()
                $0.redirect(to: ZtunnelPort.dns)
            }
        }
        return datagrams + streams
    }

    static var dnsAnswers: Nftables.Rule {
        rule("name servers' answers to ztunnel") {
            $0.udp()
            $0.sourcePort(.equal, port)
            $0.mark(.notEqual, Mark.ztunnel, mask: Mark.mask)
            $0.counter()
            $0.setZone(zone)
        }
    }

    static var dnsQuestions: Nftables.Rule {
        rule("ztunnel's questions to name servers") {
            $0.udp()
            $0.destinationPort(.equal, port)
            $0.mark(.equal, Mark.ztunnel, mask: Mark.mask)
            $0.counter()
            $0.setZone(zone)
        }
    }
}
