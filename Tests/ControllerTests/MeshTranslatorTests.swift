import Discovery
import Mesh
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
        guard case .pods(let changed) = translator.update(to: snapshot) else {
            Issue.record("everything was translated again")
            return
        }
        #expect(Array(changed.keys) == [ObjectName(namespace: "shop", name: "p7")])
        #expect(changed.values.first??.status == .unhealthy)
        #expect(changed.values.first??.services.count == 1)
        guard case .pods(let none) = translator.update(to: snapshot) else {
            Issue.record("no change is no change of everything")
            return
        }
        #expect(none.isEmpty)
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

    @Test("whatever changes in whatever order, the sum of the changes is the whole", arguments: 0..<20)
    func sum(seed: Int) throws {
        var random = Xorshift(state: UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 &+ 1)
        let translation = MeshTranslation()
        var translator = MeshTranslator(translation)
        let server = DiscoveryServer(logger: RunningController.quiet)
        var snapshot = ObjectSnapshot()
        var partial = 0
        for _ in 0..<60 {
            for _ in 0..<Int.random(in: 1...3, using: &random) { Self.change(&snapshot, &random) }
            switch translator.update(to: snapshot) {
            case .all(let outcome): try server.publish(outcome.resources)
            case .pods(let pods):
                partial += 1
                try server.publish(
                    workloads: pods.values.compactMap { $0 },
                    removed: pods.compactMap { $0.value == nil ? translation.uid(ofPod: $0.key) : nil })
            }
            let whole = translation.resources(of: snapshot).resources
            #expect(Set(server.resources) == Set(whole))
            #expect(server.resources.count == whole.count)
        }
        #expect(partial > 10)
    }

    private static func change(_ snapshot: inout ObjectSnapshot, _ random: inout Xorshift) {
        let index = Int.random(in: 0..<12, using: &random)
        let label = Bool.random(using: &random) ? "web" : "db"
        switch Int.random(in: 0..<10, using: &random) {
        case 0: snapshot.insert(service("s\(index % 3)", selecting: label))
        case 1: snapshot.remove(ObjectKey(kind: .pod, name: ObjectName(namespace: "shop", name: "p\(index)")))
        case 2:
            var pod = pod(index)
            pod.status.phase = .succeeded
            snapshot.insert(.pod(pod))
        default: snapshot.insert(.pod(pod(index, ready: Bool.random(using: &random), label: label)))
        }
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
