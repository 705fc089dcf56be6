import Addressing
import Glibc
import LinuxNetwork
import Netlink

/// A feature as an operator of a node is told of it.
public struct NodeFeature: Hashable, Sendable {
    public let feature: KernelFeature
    /// Without it no pod of this node is captured.
    public let isRequired: Bool
    /// How to get it where it is missing.
    public let hint: String
}

/// Whether this node's kernel can do what capture by nf_tables asks of it, part by part, so that what is missing has a name.
/// Each part is done, in a scratch namespace that ends with the attempt. Blocks: never call it on the cooperative pool.
public enum NodeCheck {
    public static func probe() -> [NodeFeature] {
        nftables() + policyRouting() + sockets() + [connection()] + optional()
            + KernelFeatures.probe().map {
                NodeFeature(feature: $0, isRequired: false, hint: "needed only where --redirection asks for it")
            }
    }

    /// A try of one feature.
    static func attempt(
        _ name: String, _ minimum: String, for backEnds: [KernelFeature.BackEnd], required: Bool = true, hint: String,
        _ body: () throws -> String
    ) -> NodeFeature {
        let result = Result { try body() }
        let (isPresent, detail) =
            switch result {
            case .success(let text): (true, text)
            case .failure(let error): (false, "\(error)")
            }
        let feature = KernelFeature(
            name: name, minimumKernel: minimum, neededBy: backEnds, isPresent: isPresent, detail: detail)
        return NodeFeature(feature: feature, isRequired: required, hint: hint)
    }

    private static func inScratch(_ body: () throws -> Void) throws {
        let scratch = try NetworkNamespace.make()
        try scratch.run { () throws(any Error) in try body() }
    }

    // MARK: nf_tables

    private static func rules(_ chains: [Nftables.Chain]) throws {
        try inScratch {
            var socket = try NftablesSocket()
            var batch = Nftables.Batch()
            let table = "apus-probe"
            batch.addTable(table)
            for chain in chains {
                batch.addChain(chain, table: table)
                for rule in chain.rules { batch.addRule(rule, chain: chain.name, table: table) }
            }
            try socket.commit(batch)
        }
    }

    private static func rule(_ body: (inout RuleBuilder) -> Void) -> Nftables.Rule {
        var builder = RuleBuilder()
        body(&builder)
        return Nftables.Rule(builder.expressions)
    }

    private static let config = "a kernel with CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET"

    private static func nftables() -> [NodeFeature] {
        let nat = Nftables.Base(.nat, .output, priority: -199)
        let raw = Nftables.Base(.filter, .output, priority: -300)
        return [
            attempt(
                "nf_tables inet NAT", "5.2", for: [.nftables],
                hint: "modprobe nft_chain_nat, or \(config), CONFIG_NFT_NAT"
            ) {
                try rules([Nftables.Chain("out", nat)])
                return "made a chain of type nat for both families"
            },
            attempt(
                "nf_tables redirect", "5.2", for: [.nftables],
                hint: "modprobe nft_redir, or \(config), CONFIG_NFT_REDIR"
            ) {
                let redirect = rule {
                    $0.tcp()
                    $0.redirect(to: ZtunnelPort.outbound)
                }
                try rules([Nftables.Chain("out", nat, rules: [redirect])])
                return "made a rule that redirects"
            },
            attempt(
                "conntrack in rules", "4.11", for: [.nftables],
                hint: "modprobe nft_ct, or \(config), CONFIG_NFT_CT, CONFIG_NF_CONNTRACK_ZONES"
            ) {
                let state = rule {
                    $0.newConnection()
                    $0.accept()
                }
                let untracked = rule { $0.notrack() }
                let zone = rule {
                    $0.udp()
                    $0.setZone(1)
                }
                try rules([
                    Nftables.Chain("out", raw, rules: [zone, untracked]), Nftables.Chain("new", nat, rules: [state]),
                ])
                return "made rules with ct state, notrack and ct zone"
            },
            setting(.picksUpOpenConnections, "3.6", for: [.nftables], hint: "modprobe nf_conntrack"),
        ]
    }

    // MARK: Settings and routes

    private static func setting(
        _ setting: NamespaceSetting, _ minimum: String, for backEnds: [KernelFeature.BackEnd], hint: String
    ) -> NodeFeature {
        attempt(setting.rawValue, minimum, for: backEnds, hint: "\(hint); /proc/sys must be writable") {
            try inScratch {
                if setting == .picksUpOpenConnections {
                    var socket = try NftablesSocket()
                    try socket.loadConntrack()
                }
                let wanted = setting.kernelDefault == "1" ? "0" : "1"
                try setting.setting.write(wanted)
                guard setting.setting.read() == wanted else {
                    throw RedirectionError(.setting, "\(setting.setting.name) does not keep what is written")
                }
            }
            return "changed \(setting.setting.name) in a namespace"
        }
    }

    private static func policyRouting() -> [NodeFeature] {
        IPAddress.Family.allCases.map { family in
            let isV4 = family == .v4
            let config = isV4 ? "CONFIG_IP_MULTIPLE_TABLES" : "CONFIG_IPV6_MULTIPLE_TABLES and IPv6 not switched off"
            return attempt(
                isV4 ? "policy rules" : "policy rules, IPv6", "2.6.19", for: [.nftables, .ebpf], required: isV4,
                hint: isV4 ? "a kernel with \(config)" : "only for pods with IPv6: a kernel with \(config)"
            ) {
                try inScratch {
                    var routes = try RouteSocket()
                    try PolicyRouting.establish(RedirectionPlan(families: [family]), &routes)
                    let drift = try PolicyRouting.drift(RedirectionPlan(families: [family]), &routes)
                    guard drift.isEmpty else {
                        throw RedirectionError(.kernel, drift.map(\.description).joined(separator: "; "))
                    }
                }
                return "made a rule by mark and a local route, and read them back"
            }
        }
    }

    private static func sockets() -> [NodeFeature] {
        let old = "a newer kernel"
        return [
            setting(.socketsInheritMarks, "3.16", for: [.nftables, .ebpf], hint: old),
            setting(.answersReflectMarks, "3.16", for: [.nftables, .ebpf], hint: old),
            attempt(
                "sock_diag with marks", "4.9", for: [.nftables, .ebpf], hint: "modprobe tcp_diag, or CONFIG_INET_DIAG"
            ) {
                try inScratch {
                    let listener = try Sockets.tcp(dualStack: false)
                    try Sockets.setMark(listener.raw, Mark.ztunnel)
                    try Sockets.bind(listener.raw, to: Endpoint(.loopbackV4, ZtunnelPort.outbound), dualStack: false)
                    try Sockets.listen(listener.raw, backlog: 1)
                    var diagnostics = try SocketDiagnostics()
                    guard try diagnostics.tcpSockets(in: [.listening]).contains(where: { $0.mark == Mark.ztunnel })
                    else {
                        throw RedirectionError(.kernel, "the kernel lists a marked socket without its mark")
                    }
                }
                return "found a socket by its mark"
            },
        ]
    }

    // MARK: All together

    private static func connection() -> NodeFeature {
        attempt("a captured connection", "5.2", for: [.nftables], hint: "see the lines above; CONFIG_VETH for this try")
        {
            let scratch = try NetworkNamespace.make()
            let target = Endpoint(IPAddress(198, 51, 100, 1), 80)
            try scratch.run { () throws(any Error) in
                var routes = try RouteSocket()
                try routes.createPair("out", peer: "nowhere")
                for name in ["out", "nowhere"] {
                    if let link = try routes.link(named: name) { try routes.setUp(link.index) }
                }
                guard let link = try routes.link(named: "out") else { return }
                try routes.add(InterfaceAddress(IPAddress(198, 51, 100, 2), prefixLength: 24, interface: link.index))
            }
            try NftablesBackend().apply(RedirectionPlan(families: [.v4]), in: scratch)
            try scratch.run { () throws(any Error) in
                let listener = try Sockets.tcp(dualStack: false)
                try Sockets.setMark(listener.raw, Mark.ztunnel)
                try Sockets.bind(listener.raw, to: Endpoint(.anyV4, ZtunnelPort.outbound), dualStack: false)
                try Sockets.listen(listener.raw, backlog: 1)
                let client = try Sockets.tcp(dualStack: false)
                _ = try Sockets.connect(client.raw, to: target, dualStack: false)
                var entry = pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0)
                guard poll(&entry, 1, 1000) > 0, let accepted = try Sockets.accept(listener.raw) else {
                    throw RedirectionError(.kernel, "a connection did not come to the listener within a second")
                }
                let descriptor = accepted.takeDescriptor()
                guard Sockets.originalDestination(descriptor.raw) == target else {
                    throw RedirectionError(.kernel, "SO_ORIGINAL_DST does not say where a connection wanted to go")
                }
            }
            return "captured one in a namespace, and it said where it wanted to go"
        }
    }

    // MARK: What is of use

    private static func optional() -> [NodeFeature] {
        [
            attempt(
                "cgroup v2", "4.5", for: [.nftables], required: false,
                hint: "mount -t cgroup2; systemd.unified_cgroup_hierarchy=1"
            ) {
                guard let mount = ControlGroups.mount() else {
                    throw RedirectionError(.kernel, "no cgroup2 is mounted")
                }
                return "mounted at \(mount)"
            },
            attempt(
                "sockets by cgroup in rules", "5.13", for: [.nftables], required: false,
                hint: "modprobe nft_socket, or \(config), CONFIG_NFT_SOCKET, CONFIG_SOCK_CGROUP_DATA"
            ) {
                let match = Nftables.Rule([.loadSocketCgroup(level: 1)])
                try rules([Nftables.Chain("out", .init(.filter, .output, priority: 0), rules: [match])])
                return "made a rule that asks a packet's socket for its cgroup"
            },
            attempt(
                "sealed sockets", "5.11", for: [.nftables, .ebpf], required: false,
                hint: "ztunnel's mark is believed, whoever sets it: a kernel with CONFIG_NET_RX_BUSY_POLL"
            ) {
                if let problem = SealProbe.problem() { throw problem }
                return "set an option that takes CAP_NET_ADMIN, and does nothing"
            },
            attempt(
                "BTF", "5.4", for: [.ebpf], required: false, hint: "only for eBPF: a kernel with CONFIG_DEBUG_INFO_BTF"
            ) {
                let path = "/sys/kernel/btf/vmlinux"
                guard access(path, R_OK) == 0 else { throw SystemError("read \(path)") }
                return path
            },
        ]
    }
}
