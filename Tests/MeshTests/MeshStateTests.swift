import Addressing
import Testing

@testable import Mesh

/// The mesh as a list of resources, looked through from one end to the other.
struct NaiveMesh {
    var workloads: [Workload] = []
    var services: [Service] = []
    var policies: [(key: String, policy: AuthorizationPolicy)] = []

    mutating func apply(_ update: MeshUpdate) {
        switch update {
        case .workload(let workload):
            if workloads.contains(workload) { return }
            workloads.removeAll { $0.uid == workload.uid }
            workloads.append(workload)
        case .service(let service):
            if services.contains(service) { return }
            services.removeAll { $0.key == service.key }
            services.append(service)
        case .policy(let key, let policy):
            policies.removeAll { $0.key == key }
            policies.append((key, policy))
        case .remove(let name):
            if workloads.contains(where: { $0.uid == name }) {
                workloads.removeAll { $0.uid == name }
            } else {
                services.removeAll { $0.key.description == name }
            }
        case .removePolicy(let key):
            policies.removeAll { $0.key == key }
        }
    }
}

@Suite("Mesh state")
struct MeshStateTests {
    static let namespaces = ["a", "b", "c"]

    /// One of a few resources, so that the same names and addresses meet often.
    static func update(_ random: inout FixedRandom) -> MeshUpdate {
        func number(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &random) }
        func flip() -> Bool { Bool.random(using: &random) }
        let namespace = namespaces[number(3)]
        switch number(9) {
        case 0...3:
            var services: [String: PortMap] = [:]
            for _ in 0..<number(3) { services["\(namespaces[number(3)])/s\(number(5)).x"] = [80: 8080] }
            return .workload(
                pod(
                    "w\(number(20))", (0..<number(3)).map { _ in "10.0.0.\(number(12))" }, namespace: namespace,
                    hostname: number(6) == 0 ? "h\(number(3))" : "", network: number(5) == 0 ? "other" : "",
                    protocol: flip() ? .hbone : .none, account: "sa\(number(3))", node: "n\(number(2))",
                    services: services, policies: flip() ? ["a/p\(number(4))"] : [],
                    status: number(3) == 0 ? .unhealthy : .healthy, mode: number(8) == 0 ? .hostNetwork : .standard))
        case 4...5:
            let blocks = (0..<number(3)).compactMap { _ in
                CIDR(IPAddress(10, 1, UInt8(number(2)), 0), length: [8, 16, 24, 32][number(4)]).map {
                    NetworkCIDR(cidr: $0)
                }
            }
            return .service(
                service(
                    "s\(number(5))", (0..<number(3)).map { _ in "10.1.\(number(2)).\(number(4))" },
                    namespace: namespace,
                    blocks: blocks, canonical: flip(), visibility: number(4) == 0 ? .namespace : .everywhere,
                    hostname: "s\(number(5)).x"))
        case 6:
            let policy = AuthorizationPolicy(
                name: "p\(number(4))", namespace: namespace,
                scope: [.global, .namespace, .workloadSelector][number(3)], action: flip() ? .allow : .deny)
            return .policy(policy.key, policy)
        case 7:
            return .removePolicy("\(namespace)/p\(number(4))")
        default:
            let names = [
                "Kubernetes//Pod/\(namespace)/w\(number(20))", "\(namespace)/s\(number(5)).x", "no/such/name",
                "nothing",
            ]
            return .remove(names[number(4)])
        }
    }

    @Test("every lookup agrees with a list searched from end to end, after any order of changes", arguments: 0..<8)
    func againstNaive(seed: Int) {
        var random = FixedRandom(UInt64(seed))
        var naive = NaiveMesh()
        var state = MeshState(settings: MeshSettings(localNode: seed % 2 == 0 ? "n0" : nil))
        for step in 0..<1500 {
            let update = Self.update(&random)
            naive.apply(update)
            state.apply(update)
            if step % 25 == 0 { compare(state, naive) }
        }
        // Everything taken away again, nothing is left in any index.
        for workload in naive.workloads { state.apply(.remove(workload.uid)) }
        for service in naive.services { state.apply(.remove(service.key.description)) }
        for policy in naive.policies { state.apply(.removePolicy(policy.key)) }
        #expect(
            state.tables.workloadsByUID.isEmpty && state.tables.workloadsByAddress.isEmpty
                && state.tables.workloadsByHostname.isEmpty)
        #expect(state.tables.localPods.isEmpty && state.tables.localAccounts.isEmpty && state.tables.endpoints.isEmpty)
        #expect(
            state.tables.servicesByKey.isEmpty && state.tables.servicesByAddress.isEmpty
                && state.tables.servicesByBlock.isEmpty)
        #expect(state.tables.servicesByHostname.isEmpty && state.tables.blockLengths == BlockLengths())
        #expect(state.tables.policiesByKey.isEmpty && state.tables.policyKeys.isEmpty)
    }

    private func compare(_ state: MeshState, _ naive: NaiveMesh) {
        #expect(Set(state.workloads) == Set(naive.workloads))
        #expect(state.workloadCount == naive.workloads.count && state.serviceCount == naive.services.count)
        for network in ["", "other"] {
            for host in 0..<12 {
                let address = IPAddress(10, 0, 0, UInt8(host))
                let found = naive.workloads.filter {
                    $0.networkMode == .standard && $0.network == network && $0.addresses.contains(address)
                }
                // All are pods here, so HBONE decides, then who came first.
                let best = found.first { $0.tunnelProtocol == .hbone } ?? found.first
                #expect(state.workload(at: address, network: network) == best)
            }
        }
        for namespace in Self.namespaces {
            compareServices(state, naive, from: namespace)
            let local = naive.workloads.filter {
                state.settings.localNode == nil || $0.node == state.settings.localNode
            }
            for account in 0..<3 {
                let expected = local.filter { $0.namespace == namespace && $0.serviceAccount == "sa\(account)" }
                #expect(
                    state.localWorkloads(namespace: namespace, serviceAccount: "sa\(account)").map(\.uid)
                        == expected.map(\.uid).sorted())
                for workload in expected {
                    #expect(
                        state.workload(namespace: namespace, name: workload.name, serviceAccount: "sa\(account)")
                            == workload)
                }
            }
        }
        for policy in naive.policies { #expect(state.policy(policy.key) == policy.policy) }
        for workload in naive.workloads { comparePolicies(state, naive, workload) }
    }

    private func compareServices(_ state: MeshState, _ naive: NaiveMesh, from namespace: String) {
        func best(_ services: [Service]) -> Service? {
            let visible = services.filter { $0.visibility == .everywhere || $0.namespace == namespace }
            return visible.first { $0.namespace == namespace } ?? visible.last { $0.canonical } ?? visible.first
        }
        for number in 0..<5 {
            let hostname = "s\(number).x"
            #expect(
                state.service(hostname: hostname, from: namespace)
                    == best(naive.services.filter { $0.hostname == hostname }))
            let name = NamespacedHostname(namespace: namespace, hostname: hostname)
            let members = naive.workloads.filter { $0.services[name] != nil }
            #expect(Set(state.endpoints(of: name)) == Set(members))
            #expect(state.service(name) == naive.services.first { $0.key == name })
        }
        for third in 0..<2 {
            for fourth in 0..<4 {
                let address = IPAddress(10, 1, UInt8(third), UInt8(fourth))
                let exact = best(
                    naive.services.filter { $0.addresses.contains(NetworkAddress(address: address)) })
                let found = state.service(at: address, from: namespace)
                if exact != nil {
                    #expect(found == exact)
                    continue
                }
                let ranks = naive.services.filter { $0.visibility == .everywhere || $0.namespace == namespace }
                    .compactMap { service -> (Int, Int, Int)? in
                        let lengths = service.blocks.filter { $0.cidr.contains(address) }.map(\.cidr.length)
                        return lengths.max().map {
                            (service.namespace == namespace ? 1 : 0, $0, service.canonical ? 1 : 0)
                        }
                    }
                let highest = ranks.max { $0 < $1 }
                let rank = found.map { service in
                    (
                        service.namespace == namespace ? 1 : 0,
                        service.blocks.filter { $0.cidr.contains(address) }.map(\.cidr.length).max() ?? -1,
                        service.canonical ? 1 : 0
                    )
                }
                #expect((rank == nil) == (highest == nil))
                if let rank, let highest { #expect(rank == highest) }
            }
        }
    }

    private func comparePolicies(_ state: MeshState, _ naive: NaiveMesh, _ workload: Workload) {
        let expected = naive.policies.filter { entry in
            entry.policy.scope == .global
                || entry.policy.scope == .namespace && entry.policy.namespace == workload.namespace
                || workload.authorizationPolicies.contains(entry.key)
        }
        let (policies, unknown) = state.policies(for: workload)
        #expect(Set(policies.map(\.key)) == Set(expected.map(\.key)))
        #expect(policies.count == expected.count)
        #expect(unknown == workload.authorizationPolicies.filter { key in !naive.policies.contains { $0.key == key } })
    }

    @Test("a copy does not change")
    func snapshots() {
        var random = FixedRandom(21)
        var state = MeshState()
        for _ in 0..<300 { state.apply(Self.update(&random)) }
        let copy = state
        let workloads = Set(copy.workloads)
        let services = Set(copy.services)
        for _ in 0..<600 { state.apply(Self.update(&random)) }
        #expect(Set(copy.workloads) == workloads && Set(copy.services) == services)
        #expect(Set(state.workloads) != workloads)
    }

    // MARK: Rules of discovery

    @Test("removals go before upserts, whatever their order in the message")
    func removalsFirst() {
        var state = MeshState()
        let old = pod("w", ["10.0.0.1"])
        state.apply(.workload(old))
        let new = pod("w", ["10.0.0.2"])
        let change = state.apply([.workload(new), .remove(old.uid)])
        #expect(state.workload(at: ip("10.0.0.2")) == new)
        #expect(state.workload(at: ip("10.0.0.1")) == nil)
        #expect(change.workloads == [old.uid])
    }

    @Test("messages that are applied together change what they would one after the other, and are published once")
    func together() {
        let store = MeshStore(settings: MeshSettings(localNode: "local"))
        let messages: [[MeshUpdate]] = [
            [.workload(pod("a", ["10.0.0.1"])), .workload(pod("b", ["10.0.0.2"], node: "far"))],
            [.workload(pod("c", ["10.0.0.3"])), .remove(pod("a", []).uid)],
            [.workload(pod("a", ["10.0.0.4"], node: "far")), .remove(pod("c", []).uid)],
        ]
        var one = MeshState(settings: MeshSettings(localNode: "local"))
        for message in messages { one.apply(message) }
        let change = store.apply(messages: messages)
        let all = store.snapshot()
        #expect(Set(all.workloads) == Set(one.workloads) && all.workloadCount == 2)
        #expect(all.workload(at: ip("10.0.0.4")) == pod("a", ["10.0.0.4"], node: "far"))
        #expect(all.workload(at: ip("10.0.0.1")) == nil && all.workload(at: ip("10.0.0.3")) == nil)
        #expect(change.workloads == Set(["a", "b", "c"].map { pod($0, []).uid }))
        // `a` was local for a while, and so was `c`.
        #expect(change.localWorkloads == Set(["a", "c"].map { pod($0, []).uid }))
        #expect(store.version == 1)
    }

    @Test("known, changed and new workloads in any order of one message: only the changed and new ones count")
    func mixed() {
        var random = FixedRandom(11)
        for _ in 0..<50 {
            let kinds = (0..<12).map { _ in Int.random(in: 0..<3, using: &random) }
            let known = kinds.enumerated().filter { $0.element > 0 }.map {
                pod("w\($0.offset)", ["10.0.0.\($0.offset)"])
            }
            var mesh = state(known, [])
            let message = kinds.enumerated().map { pod("w\($0)", ["10.0.\($1 == 2 ? 1 : 0).\($0)"]) }
            let change = mesh.apply(message.map { .workload($0) })
            #expect(
                change.workloads == Set(kinds.enumerated().filter { $0.element != 1 }.map { message[$0.offset].uid }))
            #expect(mesh.workloadCount == 12)
            for workload in message {
                #expect(mesh.workload(at: workload.addresses[0]) === mesh.workload(uid: workload.uid))
            }
            // What was known and said again is still the one that every index has.
            for old in known where mesh.workload(uid: old.uid) == old { #expect(mesh.workload(uid: old.uid) === old) }
        }
    }

    @Test("of what changed it is said what is on this node, or was")
    func localChanges() {
        var mesh = MeshState(settings: MeshSettings(localNode: "local"))
        #expect(mesh.apply([.workload(pod("a", []))]).localWorkloads == [pod("a", []).uid])
        #expect(mesh.apply([.workload(pod("b", [], node: "far"))]).localWorkloads.isEmpty)
        #expect(mesh.apply([.workload(pod("a", [], node: "far"))]).localWorkloads == [pod("a", []).uid])
        #expect(mesh.apply([.remove(pod("a", []).uid)]).localWorkloads.isEmpty)
    }

    @Test("a name is a uid first, then a service; anything else is ignored")
    func removalNames() {
        // A workload whose uid looks like a service's key.
        let odd = Workload(uid: "ns/web.ns", name: "odd", namespace: "ns")
        var mesh = state([odd], [service("web", ["10.1.0.1"])])
        mesh.apply(.remove("ns/web.ns"))
        #expect(mesh.workloadCount == 0 && mesh.serviceCount == 1)
        #expect(mesh.apply(.remove("ns/web.ns/more")).isEmpty)
        #expect(mesh.apply(.remove("web.ns")).isEmpty)
        #expect(mesh.apply(.remove("")).isEmpty)
        #expect(mesh.apply(.remove("ns/web.ns")).services == [key("ns/web.ns")])
        #expect(mesh.serviceCount == 0)
    }

    @Test("endpoints may come before their service and stay when it goes")
    func stagedEndpoints() {
        let client = pod("client", ["10.0.0.1"])
        var mesh = state([client, pod("w", ["10.0.0.2"], services: ["ns/web.ns": [80: 8080]])])
        let web = service("web", ["10.1.0.1"], ports: [.init(80, target: 80)])
        #expect(mesh.endpoints(of: web.key).map(\.name) == ["w"])
        #expect(!mesh.isEndpoint(mesh.endpoints(of: web.key)[0], of: web.key))
        let line = "hbone 10.0.0.2:15008 10.0.0.2:8080 [w] for web"
        mesh.apply(.service(web))
        #expect(mesh.routeLine(from: client, to: "10.1.0.1:80") == line)
        mesh.apply(.remove("ns/web.ns"))
        #expect(mesh.routeLine(from: client, to: "10.1.0.1:80") == "passthrough 10.1.0.1:80")
        mesh.apply(.service(web))
        #expect(mesh.routeLine(from: client, to: "10.1.0.1:80") == line)
    }

    @Test("a resource that says nothing new is no change")
    func unchanged() {
        var mesh = state([pod("w", ["10.0.0.2"])], [service("web", ["10.1.0.1"])])
        let policy = AuthorizationPolicy(name: "p", namespace: "ns", scope: .namespace, action: .deny)
        #expect(!mesh.apply(.policy("ns/p", policy)).isEmpty)
        #expect(
            mesh.apply([
                .workload(pod("w", ["10.0.0.2"])), .service(service("web", ["10.1.0.1"])), .policy("ns/p", policy),
            ]).isEmpty)
    }

    @Test("fields that are empty on the wire have their defaults")
    func defaults() {
        let workload = Workload(uid: "u", name: "n", namespace: "ns")
        #expect(workload.identity.description == "spiffe://cluster.local/ns/ns/sa/default")
        #expect(workload.clusterID == "Kubernetes" && workload.capacity == 1 && workload.status == .healthy)
        #expect(Workload.ApplicationTunnel(framing: .proxy, port: 0).port == nil)
        #expect(GatewayAddress(.hostname(key("a/b"))).port == 15008)
    }

    @Test("names that are no SPIFFE identity are kept and expected of nobody")
    func subjectNames() {
        let odd = service("s", names: ["example.com", "spiffe://td/ns/a/sa/b", "spiffe://td/other"])
        #expect(odd.subjectAltNames.count == 3)
        #expect(odd.subjectIdentities.map(\.description) == ["spiffe://td/ns/a/sa/b"])
    }
}

@Suite("Mesh changes")
struct MeshChangeTests {
    @Test("authorization is asked about again for those whose policies or labels changed, and for no one else")
    func concerns() {
        let listing = pod("listing", [], policies: ["x/listed"])
        let plain = pod("plain", [])
        var state = MeshState()
        func change(_ scope: AuthorizationPolicy.Scope, namespace: String, name: String = "listed") -> MeshChange {
            let policy = AuthorizationPolicy(name: name, namespace: namespace, scope: scope, action: .deny)
            return state.apply(.policy(policy.key, policy))
        }
        let selected = change(.workloadSelector, namespace: "x")
        #expect(selected.concernsAuthorization(of: listing) && !selected.concernsAuthorization(of: plain))
        let own = change(.namespace, namespace: "ns")
        #expect(own.concernsAuthorization(of: listing) && own.concernsAuthorization(of: plain))
        let foreign = change(.namespace, namespace: "y")
        #expect(!foreign.concernsAuthorization(of: plain))
        let global = change(.global, namespace: "root")
        #expect(global.concernsAuthorization(of: plain))
        // From the namespace to a selector: those it applied to before are concerned as well.
        let narrowed = change(.workloadSelector, namespace: "ns")
        #expect(narrowed.concernsAuthorization(of: plain))
        #expect(state.apply(.removePolicy("root/listed")).concernsAuthorization(of: plain))
        #expect(state.apply(.workload(plain)).concernsAuthorization(of: plain))
        #expect(!state.apply(.service(service("s"))).concernsAuthorization(of: plain))
    }

    @Test("several changes as one")
    func merge() {
        var state = MeshState()
        var merged = state.apply(.workload(pod("a", [])))
        merged.merge(state.apply(.service(service("s"))))
        merged.merge(state.apply(.remove(pod("a", []).uid)))
        #expect(merged.workloads == [pod("a", []).uid] && merged.services == [key("ns/s.ns")] && !merged.isEmpty)
    }
}
