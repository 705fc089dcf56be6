import Addressing
import ArgumentParser
import Foundation
import LinuxNetwork
import Redirection

/// `apus redirect`: capture in one network namespace, by hand or from a script, without agent or mesh.
struct RedirectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "redirect",
        abstract: "Capture the traffic of a network namespace, prove that it is captured, take it away again.",
        discussion: """
            What is captured goes to listeners on 15001 (outbound), 15006 (inbound), 15008 (HBONE) and 15053 (DNS) in the \
            namespace; where none listens it is refused. The node's own namespace is never touched. Exit codes: 0 done, \
            or no drift; 1 drift (verify); 2 an error; 64 wrong arguments.
            """,
        subcommands: [Plan.self, Apply.self, Verify.self, Remove.self])

    struct NamespaceOption: ParsableArguments {
        @Option(help: "The network namespace: /run/netns/NAME, /proc/PID/ns/net.") var netns: String
    }

    struct Plan: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Say what would hold: the plan as a value, and the rules, routes and settings it means to nftables.")
        @Option(help: "The network namespace the plan is for; its families are those that are switched on there.")
        var netns: String?
        @OptionGroup var options: PlanOptions
        @Flag(help: "As JSON.") var json = false

        func run() async throws {
            let plan: RedirectionPlan
            if let netns {
                plan = try await RedirectWork.run(netns) { try options.plan(in: $0) }
            } else {
                plan = try await RedirectWork.run { try options.plan(families: options.families ?? [.v4, .v6]) }
            }
            let report = PlanReport(plan, NftablesBackend().outline(plan))
            print(try json ? report.json() : report.text(), terminator: "")
        }
    }

    struct Apply: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make it hold, from whatever is there. Doing it again changes nothing.")
        @OptionGroup var namespace: NamespaceOption
        @OptionGroup var options: PlanOptions
        @OptionGroup var means: MeansOption

        func run() async throws {
            try await RedirectWork.run(namespace.netns) { pod in
                let plan = try options.plan(in: pod)
                try means.backend(for: plan).apply(plan, in: pod)
            }
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read back what holds and print what differs from the same options' plan.")
        @OptionGroup var namespace: NamespaceOption
        @OptionGroup var options: PlanOptions
        @OptionGroup var means: MeansOption
        @Flag(help: "As JSON.") var json = false

        func run() async throws {
            let drift = try await RedirectWork.run(namespace.netns) { pod in
                let plan = try options.plan(in: pod)
                return try means.backend(for: plan).verify(plan, .capturing, in: pod)
            }
            print(try json ? DriftReport(drift).json() : drift.map { "\($0)\n" }.joined(), terminator: "")
            if !drift.isEmpty { throw ExitCode(1) }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take it away and put settings back; what is still captured is cut. Nothing there is no error.")
        @OptionGroup var namespace: NamespaceOption

        func run() async throws {
            // Whichever back end it was: this one takes the other's part away as well.
            let choice = try RedirectionChoice.make(.nftables)
            try await RedirectWork.run(namespace.netns) { try choice.backend.remove(in: $0) }
        }
    }
}

/// By what it is captured, from an argument.
struct MeansOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            By what it is captured. auto: ebpf where the kernel has all that it needs and no creator is named, nftables \
            elsewhere.
            """, valueName: "nftables|ebpf|auto"))
    var redirection = RedirectionMode.nftables

    /// Tries the kernel where that is asked for. Blocks.
    /// - Throws: Where the kernel lacks what `ebpf` needs.
    func backend(for plan: RedirectionPlan) throws(RedirectionError) -> any RedirectionBackend {
        // eBPF cannot tell sockets by who made them, and refuses such a plan.
        let needsCreators = !plan.creators.isEmpty && !plan.requiresSeal
        let mode = redirection == .auto && needsCreators ? .nftables : redirection
        return try RedirectionChoice.make(mode).backend
    }
}

/// What is to be captured, from arguments.
struct PlanOptions: ParsableArguments {
    @Option(
        name: .customLong("families"),
        help: ArgumentHelp("IPv4, IPv6 or both; those that are switched on, unless given.", valueName: "v4,v6"))
    var familyList: String?
    @Flag(help: "Leave what comes in alone, HBONE apart.") var noInbound = false
    @Flag(help: "Capture DNS too, over UDP and TCP.") var dns = false
    @Option(
        name: .customLong("virtual-interface"),
        help: ArgumentHelp("An interface by which a guest sends: its TCP is outbound. Repeatable.", valueName: "name"))
    var virtualInterfaces: [String] = []
    @Option(
        name: .customLong("creator"),
        help: ArgumentHelp(
            """
            A control group (v2) whose processes make the proxy's sockets; without one, whoever sets the mark is taken \
            for the proxy. Repeatable.
            """, valueName: "directory"))
    var creators: [String] = []
    @Flag(
        help: """
            The proxy's sockets are sealed (SO_BUSY_POLL_BUDGET 61, which takes CAP_NET_ADMIN): the mark alone lets nothing \
            past.
            """)
    var sealed = false
    @Flag(help: "Drop what capture misses while something of it is damaged.") var secondLine = false

    func validate() throws {
        if let familyList, families?.isEmpty != false {
            throw ValidationError("--families \(familyList): expected v4, v6 or v4,v6")
        }
        for name in virtualInterfaces {
            guard let problem = InterfaceName.virtualProblem(name) else { continue }
            throw ValidationError("--virtual-interface \"\(name)\" \(problem)")
        }
        let most = RedirectionPlan.mostVirtualInterfaces
        guard Set(virtualInterfaces).count <= most else {
            throw ValidationError("--virtual-interface: at most \(most) can be named")
        }
    }

    /// Those that are asked for; `nil` without a choice, or with one that means nothing.
    var families: Set<IPAddress.Family>? {
        guard let familyList else { return nil }
        let names: [String: IPAddress.Family] = ["v4": .v4, "v6": .v6]
        let found = familyList.split(separator: ",", omittingEmptySubsequences: false).map { names[String($0)] }
        return found.contains(nil) ? [] : Set(found.compactMap { $0 })
    }

    func plan(families: Set<IPAddress.Family>) throws -> RedirectionPlan {
        RedirectionPlan(
            families: families, capturesInbound: !noInbound, capturesDNS: dns, virtualInterfaces: virtualInterfaces,
            creators: Set(try creators.map { try SocketCreator(directory: $0) }), dropsUncaptured: secondLine,
            requiresSeal: sealed)
    }

    /// The plan for a namespace. Blocks.
    func plan(in namespace: borrowing NetworkNamespace) throws -> RedirectionPlan {
        let present = try RedirectionPlan.families(in: namespace)
        let wanted = families ?? present
        guard wanted.isSubset(of: present) else {
            throw RedirectionError(
                .setting, "IPv6 is switched off in this namespace",
                hint: "leave --families out, or give --families v4")
        }
        return try plan(families: wanted)
    }
}

/// Work in a namespace that a user names: on a thread of its own, never in the node's namespace, and with errors told.
enum RedirectWork {
    static func run<Value: Sendable>(
        _ path: String, _ body: @escaping @Sendable (borrowing NetworkNamespace) throws -> Value
    ) async throws -> Value {
        try await run { try body(try open(path)) }
    }

    static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        do {
            let thread = try EventLoopThread<Void>(name: "redirect") { _ in }
            defer { thread.stop() }
            let result = await thread.perform { _ in Result { try body() } }
            guard let result else { throw RedirectionError(.kernel, "the thread for the work ended") }
            return try result.get()
        } catch {
            complain("apus redirect: \(error)")
            throw ExitCode(2)
        }
    }

    private static func open(_ path: String) throws -> NetworkNamespace {
        let namespace: NetworkNamespace
        do throws(SystemError) {
            namespace = try NetworkNamespace(path: path)
        } catch {
            throw RedirectionError(
                .setting, "--netns \(path) cannot be used", cause: "\(error)",
                hint: "name a network namespace: /run/netns/NAME or /proc/PID/ns/net")
        }
        var hosts = [try NetworkNamespace.current().id]
        // In a container without the machine's process list this cannot be read; the own one is known in any case.
        if let first = try? NetworkNamespace(path: "/proc/1/ns/net") { hosts.append(first.id) }
        guard !hosts.contains(namespace.id) else {
            throw RedirectionError(
                .setting, "--netns \(path) is the node's own namespace or this process's",
                hint: "capture there would cut the node off; name a pod's namespace")
        }
        return namespace
    }
}

// MARK: - What is printed

private struct PlanReport: Encodable {
    struct Value: Encodable {
        let families: [String]
        let capturesInbound: Bool
        let capturesDNS: Bool
        let virtualInterfaces: [String]
        let sparesOpenConnections: Bool
        let creators: [Creator]
        let requiresSeal: Bool
        let dropsUncaptured: Bool
    }

    struct Creator: Encodable {
        let cgroup: UInt64
        let level: UInt32
    }

    struct Entry: Encodable {
        let family: String
        let text: String
    }

    let plan: Value
    let ruleset: String
    let routes: [Entry]
    let policyRules: [Entry]
    let settings: [String: String]

    init(_ plan: RedirectionPlan, _ outline: RedirectionOutline) {
        func name(_ family: IPAddress.Family) -> String { family == .v4 ? "v4" : "v6" }
        func entries(_ list: [RedirectionOutline.Entry]) -> [Entry] {
            list.map { Entry(family: name($0.family), text: $0.text) }
        }
        self.plan = Value(
            families: plan.families.map(name).sorted(), capturesInbound: plan.capturesInbound,
            capturesDNS: plan.capturesDNS, virtualInterfaces: plan.virtualInterfaces,
            sparesOpenConnections: plan.sparesOpenConnections,
            creators: plan.creators.map { Creator(cgroup: $0.cgroup, level: $0.level) }
                .sorted { $0.cgroup < $1.cgroup },
            requiresSeal: plan.requiresSeal, dropsUncaptured: plan.dropsUncaptured)
        ruleset = outline.ruleset
        routes = entries(outline.routes)
        policyRules = entries(outline.policyRules)
        settings = Dictionary(outline.settings.map { ($0.name, $0.value) }) { first, _ in first }
    }

    func json() throws -> String { try prettyJSON(self) }

    func text() throws -> String {
        func ip(_ entry: Entry, _ kind: String) -> String {
            "ip \(entry.family == "v4" ? "-4" : "-6") \(kind) add \(entry.text)\n"
        }
        return "# the plan\n\(try prettyJSON(plan))\n# nft\n\(ruleset)\n# ip\n"
            + routes.map { ip($0, "route") }.joined() + policyRules.map { ip($0, "rule") }.joined()
            + "\n# sysctl\n" + settings.sorted { $0.key < $1.key }.map { "\($0.key) = \($0.value)\n" }.joined()
    }
}

private struct DriftReport: Encodable {
    struct Item: Encodable {
        let reason: String
        let description: String
    }

    let drift: [Item]

    init(_ drift: [Drift]) {
        self.drift = drift.map { Item(reason: $0.reason, description: "\($0)") }
    }

    func json() throws -> String { try prettyJSON(self) }
}

/// For programs, and still readable.
func prettyJSON(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
}
