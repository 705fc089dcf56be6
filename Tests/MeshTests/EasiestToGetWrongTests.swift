import Addressing
import Testing

@testable import Mesh

/// Behaviours that implementations of this protocol get wrong most easily, one test each, by name.
@Suite("Easiest to get wrong")
struct EasiestToGetWrongTests {
    static let client = pod("client", ["10.0.0.1"])
    static let waypoint = pod("waypoint-1", ["10.0.0.50"], account: "waypoint", services: ["ns/waypoint.ns": [:]])
    static let front = service(
        "waypoint", ["10.1.0.50"], ports: [.init(15008, target: 15008)], names: ["spiffe://td/ns/ns/sa/extra"])

    func mesh(_ workloads: [Workload], _ services: [Service]) -> MeshState {
        state([Self.client, Self.waypoint] + workloads, [Self.front] + services)
    }

    @Test(
        "1. lookup order differs: the waypoint by workload address before VIP, the way by VIP before workload address")
    func lookupOrderDiffers() {
        // The same address is a workload's, with a waypoint of its own, and a service's, with another.
        let shadow = pod("shadow", ["10.1.0.20"], waypoint: at("ns/missing.ns"))
        let backend = pod("backend", ["10.0.0.20"], services: ["ns/both.ns": [80: 8080]])
        let both = service("both", ["10.1.0.20"], ports: [.init(80, target: 8080)], waypoint: at("ns/waypoint.ns"))
        #expect(
            mesh([shadow, backend], [both]).routeLine(from: Self.client, to: "10.1.0.20:80")
                == "hbone 10.0.0.20:15008 10.0.0.20:8080 [backend] for both")
        // Without the workload the service is addressed, and its waypoint is on the way.
        #expect(
            mesh([backend], [both]).routeLine(from: Self.client, to: "10.1.0.20:80")
                == "hbone 10.0.0.50:15008 10.1.0.20:80 [extra waypoint] for both waypoint")
    }

    @Test("2. which waypoint applies: a service's for its VIP, a workload's for its address, a missing one is an error")
    func whichWaypointApplies() {
        let own = pod("own", ["10.0.0.6"], services: ["ns/web.ns": [80: 80]], waypoint: at("ns/waypoint.ns"))
        let lost = pod("lost", ["10.0.0.7"], services: ["ns/gone.ns": [80: 80]], waypoint: at("ns/missing.ns"))
        let mesh = mesh(
            [own, lost],
            [
                service("web", ["10.1.0.5"], ports: [.init(80, target: 80)]),
                service("gone", ["10.1.0.6"], ports: [.init(80, target: 80)], waypoint: at("ns/missing.ns")),
            ])
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.5:80") == "hbone 10.0.0.6:15008 10.0.0.6:80 [own] for web")
        #expect(
            mesh.routeLine(from: Self.client, to: "10.0.0.6:80")
                == "hbone 10.0.0.50:15008 10.0.0.6:80 [extra waypoint] waypoint")
        #expect(mesh.routeLine(from: Self.client, to: "10.0.0.7:80") == "error unknownWaypoint")
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.6:80") == "error unknownWaypoint")
    }

    @Test(
        "2. the waypoint itself is not sent to itself: only when identity and address are both its own",
        arguments: [
            ("waypoint", "10.0.0.50", "hbone 10.0.0.6:15008 10.0.0.6:80 [own]"),
            ("impostor", "10.0.0.50", "hbone 10.0.0.50:15008 10.0.0.6:80 [extra waypoint] waypoint"),
            ("waypoint", "10.0.0.51", "hbone 10.0.0.50:15008 10.0.0.6:80 [extra waypoint] waypoint"),
        ])
    func notThroughItself(account: String, address: String, expect: String) {
        let own = pod("own", ["10.0.0.6"], waypoint: at("ns/waypoint.ns"))
        let sender = pod("sender", [address], account: account)
        #expect(mesh([own], []).routeLine(from: sender, to: "10.0.0.6:80") == expect)
    }

    @Test(
        "3. authority forms: pod and target port; VIP untranslated at a waypoint; host name and service port between networks"
    )
    func authorityForms() throws {
        let remote = pod(
            "remote", [], network: "far", services: ["ns/far.ns": [80: 8080]], gateway: at("/10.0.0.70"))
        let mesh = mesh(
            [
                pod("web", ["10.0.0.5"], services: ["ns/web.ns": [80: 8080]]), pod("gateway", ["10.0.0.70"]), remote,
            ],
            [
                service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)]),
                service("fronted", ["10.1.0.6"], ports: [.init(80, target: 8080)], waypoint: at("ns/waypoint.ns")),
                service("far", ["10.1.0.7"], ports: [.init(80, target: 8080)]),
            ])
        func route(_ destination: String) throws -> Route {
            var random = FixedRandom(1)
            return try mesh.route(
                from: Self.client, sourceAddress: ip("10.0.0.1"), to: endpoint(destination), random: &random)
        }
        guard case .hbone(let direct) = try route("10.1.0.5:80"), case .hbone(let fronted) = try route("10.1.0.6:80"),
            case .doubleHBONE(let double) = try route("10.1.0.7:80")
        else {
            Issue.record("other kinds of routes")
            return
        }
        #expect("\(direct.authority)" == "10.0.0.5:8080" && direct.dial == endpoint("10.0.0.5:15008"))
        #expect("\(fronted.authority)" == "10.1.0.6:80" && fronted.dial == endpoint("10.0.0.50:15008"))
        #expect("\(double.authority)" == "far.ns:80" && double.dial == endpoint("10.0.0.70:15008"))
        #expect(double.sourceNetwork == mesh.settings.network)
    }

    @Test("4. expected identities: the service's and the workload's; between networks inside the service's alone")
    func expectedIdentities() {
        func accounts(_ names: [String]) -> String {
            let remote = pod(
                "remote", [], network: "far", services: ["ns/web.ns": [80: 80]], gateway: at("/10.0.0.70"))
            let web = service("web", ["10.1.0.5"], ports: [.init(80, target: 80)], names: names)
            return mesh([pod("gateway", ["10.0.0.70"]), remote], [web]).routeLine(
                from: Self.client, to: "10.1.0.5:80")
        }
        #expect(
            accounts(["spiffe://td/ns/ns/sa/web"]) == "double 10.0.0.70:15008 [gateway] web.ns:80 [web] for web")
        // An empty list matches no peer at all; it is not filled up with the workload's own.
        #expect(accounts([]) == "double 10.0.0.70:15008 [gateway] web.ns:80 [] for web")
        let near = mesh(
            [pod("near", ["10.0.0.5"], services: ["ns/web.ns": [80: 80]])],
            [service("web", ["10.1.0.5"], ports: [.init(80, target: 80)], names: ["spiffe://td/ns/ns/sa/web"])])
        #expect(
            near.routeLine(from: Self.client, to: "10.1.0.5:80")
                == "hbone 10.0.0.5:15008 10.0.0.5:80 [web near] for web")
    }

    @Test("5. an illegal port is refused with 503, by the port that a host name's port stands for")
    func illegalPortIsTheResolvedOne() {
        let local = pod("local", ["10.0.0.5"], services: ["ns/web.ns": [80: 15006, 15006: 8080]])
        let mesh = mesh(
            [local], [service("web", ["10.1.0.5"], ports: [.init(80, target: 0), .init(15006, target: 0)])])
        func outcome(_ authority: String) -> String {
            switch mesh.inboundTarget(authority: authority, localWorkload: local, localAddress: ip("10.0.0.5")) {
            case .success(let target): "\(target.dial)"
            case .failure(let rejection): "\(rejection.status) \(rejection.code)"
            }
        }
        #expect(outcome("web.ns:80") == "503 illegalPort")
        #expect(outcome("web.ns:15006") == "10.0.0.5:8080")
        #expect(outcome("10.0.0.5:15008") == "503 illegalPort")
    }

    @Test("6. the inbound target is always the pod's own address; the one asked for is only checked, its port is used")
    func inboundTargetIsLocal() throws {
        let served = pod("served", ["10.0.0.9"], waypoint: at("ns/waypoint.ns"))
        let mesh = mesh([served], [])
        let target = try mesh.inboundTarget(
            authority: "10.0.0.9:8443", localWorkload: Self.waypoint, localAddress: ip("10.0.0.50")
        ).get()
        #expect(target.destination == endpoint("10.0.0.50:8443") && target.dial == target.destination)
        #expect(throws: InboundRejection.self) {
            try mesh.inboundTarget(
                authority: "10.0.0.9:8443", localWorkload: Self.client, localAddress: ip("10.0.0.1")
            ).get()
        }
    }

    @Test("7. empty policies, rules, clauses and matches; not-fields of anonymous peers; no spiffe:// in principals")
    func policyEmpties() {
        typealias Policy = AuthorizationPolicy
        let target = pod("w", ["10.0.0.9"], namespace: "ns")
        func isAllowed(_ action: Policy.Action, _ rules: [Policy.Rule], identity: SPIFFEIdentity? = nil) -> Bool {
            var state = MeshState()
            let policy = Policy(name: "p", namespace: "ns", scope: .namespace, action: action, rules: rules)
            state.apply(.policy(policy.key, policy))
            let request = AuthorizationRequest(
                sourceIdentity: identity, sourceAddress: ip("10.0.0.1"), destination: endpoint("10.0.0.9:80"))
            return state.authorize(request, for: target).isAllowed
        }
        func matching(_ matches: [Policy.Match]) -> [Policy.Rule] { [.init(clauses: [.init(matches: matches)])] }
        let known = SPIFFEIdentity(trustDomain: "td", namespace: "a", serviceAccount: "b")
        #expect(!isAllowed(.allow, []) && isAllowed(.deny, []))
        #expect(isAllowed(.allow, [.init()]) && !isAllowed(.deny, [.init()]))
        #expect(isAllowed(.allow, matching([])) && !isAllowed(.deny, matching([])))
        #expect(!isAllowed(.allow, matching([.init()])) && isAllowed(.deny, matching([.init()])))
        let stranger = matching([.init(notPrincipals: [.exact("td/ns/a/sa/b")])])
        #expect(isAllowed(.allow, stranger) && !isAllowed(.allow, stranger, identity: known))
        #expect(isAllowed(.allow, matching([.init(principals: [.exact("td/ns/a/sa/b")])]), identity: known))
        #expect(!isAllowed(.allow, matching([.init(principals: [.exact("spiffe://td/ns/a/sa/b")])]), identity: known))
    }

    @Test("8. policy is asked about the pod's address and the real port, behind the override of an application tunnel")
    func policyDestination() throws {
        let proxied = pod("proxied", ["10.0.0.5"], tunnel: .init(framing: .proxy, port: 15088))
        let target = try mesh([proxied], []).inboundTarget(
            authority: "10.1.0.5:80", localWorkload: proxied, localAddress: ip("10.0.0.5")
        ).get()
        #expect(target.destination == endpoint("10.0.0.5:15088"))
        #expect(target.dial == endpoint("127.0.0.1:15088"))
        #expect(target.proxyProtocolDestination == endpoint("10.1.0.5:80"))
    }

    @Test("11. delta discovery: removals before upserts in one message, endpoints before their service")
    func deltaOrder() {
        let backend = pod("backend", ["10.0.0.5"], services: ["ns/web.ns": [80: 80]])
        let web = service("web", ["10.1.0.5"], ports: [.init(80, target: 80)])
        var state = MeshState()
        state.apply([.workload(Self.client), .workload(backend)])
        state.apply([.service(web), .remove(web.key.description), .workload(backend), .remove(backend.uid)])
        #expect(
            state.routeLine(from: Self.client, to: "10.1.0.5:80")
                == "hbone 10.0.0.5:15008 10.0.0.5:80 [backend] for web")
    }

    @Test(
        "13. a VIP is looked up in the client's network, and a service of its namespace alone is not there for others")
    func virtualAddresses() {
        let far = service("far", ["other/10.1.0.5"], ports: [.init(80, target: 80)])
        let hidden = service("hidden", ["10.1.0.6"], namespace: "x", visibility: .namespace)
        let mesh = mesh([], [far, hidden])
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.5:80") == "passthrough 10.1.0.5:80")
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.6:80") == "passthrough 10.1.0.6:80")
        #expect(mesh.service(at: ip("10.1.0.5"), network: "other", from: "ns")?.name == "far")
    }
}
