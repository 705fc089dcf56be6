import Discovery
import Mesh
import Observability
import Testing

@testable import Controller
@testable import ObjectSource

@Suite("Changes one by one")
struct MeshTranslatorTests {
    private static func pod(_ index: Int, ready: Bool = true, label: String = "web") -> Pod {
        Pod(
            metadata: ObjectMeta(name: "p\(index)", namespace: "shop", labels: ["app": label]),
            status: PodStatus(phase: .running, podIPs: ["10.0.\(index >> 8).\(index & 255)"], isReady: ready))
    }

    private static func service(_ name: String, selecting label: String) -> KubernetesObject {
        .service(
            Service(
                metadata: ObjectMeta(name: name, namespace: "shop"),
                spec: ServiceSpec(selector: ["app": label], ports: [ServicePort(port: 80)])))
    }

    @Test("of many pods only the one that changed is translated")
    func one() throws {
        var snapshot = ObjectSnapshot()
        for index in 0..<5000 { snapshot.insert(.pod(Self.pod(index))) }
        snapshot.insert(Self.service("web", selecting: "web"))
        var translator = MeshTranslator(MeshTranslation())
        guard case .all(let outcome) = translator.update(to: snapshot) else {
            Issue.record("the first update is one of everything")
            return
        }
        #expect(outcome.resources.count == 5001)
        snapshot.insert(.pod(Self.pod(7, ready: false)))
        snapshot.version += 1
        guard case .some(let changed) = translator.update(to: snapshot) else {
            Issue.record("everything was translated again")
            return
        }
        #expect(changed.others == nil)
        #expect(Array(changed.pods.keys) == [ObjectName(namespace: "shop", name: "p7")])
        #expect(changed.pods.values.first??.status == .unhealthy)
        #expect(changed.pods.values.first??.services.count == 1)
        guard case .some(let none) = translator.update(to: snapshot) else {
            Issue.record("no change is no change of everything")
            return
        }
        #expect(none.pods.isEmpty && none.others == nil)
        translator.forget()
        guard case .all = translator.update(to: snapshot) else {
            Issue.record("what was forgotten is made anew")
            return
        }
    }

    @Test("a policy that lists the accounts of pods is made anew with them")
    func waypointsOnly() {
        var configuration = MeshConfiguration()
        configuration.allowsWaypointsOnly = true
        var translator = MeshTranslator(MeshTranslation(configuration))
        var snapshot = ObjectSnapshot()
        _ = translator.update(to: snapshot)
        snapshot.insert(.pod(Self.pod(1)))
        guard case .all = translator.update(to: snapshot) else {
            Issue.record("only the pod was translated")
            return
        }
    }

    @Test("what changes in one namespace concerns its pods alone; lists of selected pods concern nobody")
    func namespaces() throws {
        var snapshot = ObjectSnapshot()
        for namespace in ["a", "b"] {
            snapshot.insert(.pod(Pod(metadata: ObjectMeta(name: "p", namespace: namespace, labels: ["app": "web"]))))
            snapshot.insert(
                .service(
                    Service(
                        metadata: ObjectMeta(name: "web", namespace: namespace),
                        spec: ServiceSpec(selector: ["app": "web"]))))
        }
        var translator = MeshTranslator(MeshTranslation())
        _ = translator.update(to: snapshot)

        snapshot.services[ObjectName(namespace: "a", name: "web")]?.spec.ports = [ServicePort(port: 80)]
        guard case .some(let changed) = translator.update(to: snapshot) else {
            Issue.record("everything was translated again")
            return
        }
        #expect(changed.pods.keys.map(\.namespace) == ["a"] && changed.others?.resources["a"]?.count == 1)
        #expect(changed.others?.resources["b"] == nil, "what is in other namespaces was translated again")

        snapshot.insert(Self.slice("s", of: "web", in: "a", pod: "p"))
        guard case .some(let none) = translator.update(to: snapshot) else {
            Issue.record("everything was translated again")
            return
        }
        #expect(none.pods.isEmpty && none.others == nil)
    }

    private struct Setting {
        var configuration: MeshConfiguration
        /// Whether most changes have to be translated in part.
        var isIncremental = true
    }

    private static func setting(_ seed: Int) -> Setting {
        var setting = Setting(configuration: MeshConfiguration())
        if seed % 5 == 3 {
            setting.configuration.discoverySelectors = [LabelSelector(labels: ["mesh": "on"])]
        }
        if seed % 5 == 4 {
            setting.configuration.allowsWaypointsOnly = true
            setting.isIncremental = false
        }
        return setting
    }

    @Test("whatever changes in whatever order, the sum of the changes is the whole", arguments: 0..<20)
    func sum(seed: Int) throws {
        var random = Xorshift(state: UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 &+ 1)
        let setting = Self.setting(seed)
        let translation = MeshTranslation(setting.configuration)
        let server = DiscoveryServer(logger: RunningController.quiet)
        let publisher = MeshPublisher(
            translation, server, try ControllerMetrics(MetricsRegistry()), RunningController.quiet)
        // Beside it, to know which way it goes.
        var translator = MeshTranslator(translation)
        var snapshot = ObjectSnapshot()
        var (partial, withOthers) = (0, 0)
        for _ in 0..<120 {
            for _ in 0..<Int.random(in: 1...3, using: &random) { Self.change(&snapshot, &random) }
            if case .some(let changes) = translator.update(to: snapshot) {
                partial += 1
                if changes.others != nil { withOthers += 1 }
            }
            publisher.publish(snapshot)
            let whole = translation.resources(of: snapshot)
            #expect(Set(server.resources) == Set(whole.resources))
            #expect(server.resources.count == whole.resources.count)
            #expect(Set(publisher.conditions) == Set(whole.conditions))
            #expect(publisher.warnings == whole.warnings)
        }
        if setting.isIncremental { #expect(partial > 60 && withOthers > 20) }
    }

    /// One change of any kind, in few namespaces and of few names, so that objects meet.
    private static func change(_ snapshot: inout ObjectSnapshot, _ random: inout Xorshift) {
        func one(_ list: [String]) -> String { list[Int.random(in: 0..<list.count, using: &random)] }
        let namespace = one(["shop", "shop", "edge", MeshLabel.rootNamespace])
        let index = Int.random(in: 0..<12, using: &random)
        let label = one(["web", "db"])
        let name = ObjectName(namespace: namespace, name: "x\(index % 3)")
        let meta = ObjectMeta(name: name.name, namespace: namespace)
        let kinds: [ObjectKind] = [
            .pod, .pod, .pod, .pod, .service, .endpointSlice, .namespace, .node, .serviceEntry, .workloadEntry,
            .authorizationPolicy, .peerAuthentication, .gateway, .serviceAccount,
        ]
        let kind = kinds[Int.random(in: 0..<kinds.count, using: &random)]
        // Gateways and the root namespace concern everything: seldom.
        if kind == .gateway || namespace == MeshLabel.rootNamespace, index > 1 { return }
        if Int.random(in: 0..<5, using: &random) == 0 {
            let isWide = kind == .namespace || kind == .node
            let gone = kind == .pod ? "p\(index)" : kind == .namespace ? namespace : kind == .node ? "n0" : name.name
            snapshot.remove(ObjectKey(kind: kind, name: ObjectName(namespace: isWide ? "" : namespace, name: gone)))
            return
        }
        switch kind {
        case .pod:
            var pod = pod(index, ready: Bool.random(using: &random), label: label)
            pod.metadata.namespace = namespace
            pod.spec.nodeName = one(["n0", "n1"])
            if index == 3 { pod.status.phase = .succeeded }
            if index == 4 { pod.metadata.labels[WaypointTable.gatewayNameLabel] = "x0" }
            snapshot.insert(.pod(pod))
        case .service:
            var spec = ServiceSpec(ports: [ServicePort(name: "http", port: UInt16(80 + index % 2))])
            if index % 3 != 0 { spec.selector = ["app": label] }
            var meta = meta
            if index == 1 { meta.labels[WaypointTable.useLabel] = "x0" }
            snapshot.insert(.service(Service(metadata: meta, spec: spec)))
        case .endpointSlice:
            // The pod may be of another namespace.
            snapshot.insert(
                slice(
                    name.name, of: one(["x0", "x1"]), in: namespace, pod: index % 2 == 0 ? "p\(index)" : nil,
                    of: one(["shop", "edge"])))
        case .namespace:
            let labels = [["mesh": "on"], ["mesh": "on", WaypointTable.useLabel: "x0"], [:]][index % 3]
            snapshot.insert(.namespace(Namespace(namespace, labels: labels)))
        case .node:
            snapshot.insert(
                .node(
                    ClusterNode(
                        metadata: ObjectMeta(
                            name: one(["n0", "n1"]), namespace: "",
                            labels: ["topology.kubernetes.io/zone": "z\(index % 2)"]))))
        case .serviceEntry:
            snapshot.insert(
                .serviceEntry(
                    ServiceEntry(
                        metadata: meta, hosts: ["\(label).example", "x0.shop.svc.cluster.local"],
                        ports: [ServiceEntry.Port(name: "http", number: 80)], resolution: .static,
                        selector: index % 2 == 0 ? ["app": label] : [:])))
        case .workloadEntry:
            snapshot.insert(
                .workloadEntry(
                    WorkloadEntry(
                        metadata: meta, spec: WorkloadEntrySpec(address: "192.0.2.\(index)", labels: ["app": label]))))
        case .authorizationPolicy:
            snapshot.insert(
                .authorizationPolicy(
                    AuthorizationPolicy(
                        metadata: meta, selector: index % 2 == 0 ? ["app": label] : nil,
                        action: index == 5 ? .audit : .deny)))
        case .peerAuthentication:
            snapshot.insert(
                .peerAuthentication(
                    PeerAuthentication(
                        metadata: meta, selector: index % 2 == 0 ? ["app": label] : nil,
                        mode: index % 3 == 0 ? .strict : .permissive)))
        case .gateway:
            snapshot.insert(
                .gateway(
                    Gateway(
                        metadata: ObjectMeta(
                            name: "x0", namespace: namespace, labels: [WaypointTable.trafficLabel: "all"]),
                        className: "waypoint",
                        listeners: [
                            Gateway.Listener(
                                name: "mesh", port: 15008, protocolName: WaypointTable.hbone, allowedNamespaces: .all)
                        ],
                        statusAddresses: [Gateway.Address(.ip, "10.96.0.\(index)")])))
        default: snapshot.insert(.serviceAccount(ServiceAccount(metadata: meta)))
        }
    }

    /// A list of one endpoint: a pod, or an address that is none.
    private static func slice(
        _ name: String, of service: String, in namespace: String, pod: String?, of podNamespace: String? = nil
    ) -> KubernetesObject {
        .endpointSlice(
            EndpointSlice(
                metadata: ObjectMeta(
                    name: name, namespace: namespace, labels: [EndpointSlice.serviceNameLabel: service]),
                addressType: .v4,
                endpoints: [
                    SliceEndpoint(
                        addresses: ["10.9.9.9"],
                        target: pod.map { ObjectReference(kind: "Pod", name: $0, namespace: podNamespace ?? namespace) }
                    )
                ], ports: [SlicePort(name: "http", port: 8080)]))
    }

    /// The same numbers for the same seed.
    private struct Xorshift: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
    }
}
