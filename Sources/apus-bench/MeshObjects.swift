import ObjectSource
import Synchronization

/// Objects of a made-up cluster, as an API server would have them read, and a source whose pods change.
final class MeshObjects: ObjectSource {
    private struct State {
        var snapshot = ObjectSnapshot()
        var readers: [AsyncStream<ObjectSnapshot>.Continuation] = []
        var names: [ObjectName] = []
    }

    private let state = Mutex(State())
    private let services: Int

    /// Ten pods a node, each behind one service and in its list of endpoints, in namespaces of twenty services.
    init(pods: Int, services: Int) {
        self.services = services
        state.withLock { state in
            for index in 0..<services {
                let namespace = Self.namespace(index)
                if index % 20 == 0 {
                    state.snapshot.namespaces[namespace] = Namespace(
                        namespace, labels: [MeshLabel.dataplaneMode: "ambient"])
                }
                state.snapshot.insert(.service(Self.service(index)))
            }
            for node in 0...(pods / 10) {
                state.snapshot.insert(
                    .node(
                        ClusterNode(
                            metadata: ObjectMeta(
                                name: Self.node(node), namespace: "",
                                labels: [
                                    "topology.kubernetes.io/region": "europe-west1",
                                    "topology.kubernetes.io/zone": "europe-west1-\(["b", "c", "d"][node % 3])",
                                ]))))
            }
            state.names.reserveCapacity(pods)
            var endpoints: [[SliceEndpoint]] = Array(repeating: [], count: services)
            for index in 0..<pods {
                let pod = Self.pod(index, service: index % services)
                state.names.append(pod.name)
                state.snapshot.insert(.pod(pod))
                endpoints[index % services].append(Self.endpoint(pod))
            }
            // As the endpoint controller lists them, at most 100 a slice.
            for (index, endpoints) in endpoints.enumerated() {
                for start in stride(from: 0, to: endpoints.count, by: 100) {
                    state.snapshot.insert(
                        .endpointSlice(Self.slice(index, start, Array(endpoints[start...].prefix(100)))))
                }
            }
            state.snapshot.version = 1
        }
    }

    func snapshot() -> ObjectSnapshot { state.withLock { $0.snapshot } }

    func snapshots() -> AsyncStream<ObjectSnapshot> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: ObjectSnapshot.self, bufferingPolicy: .bufferingNewest(1))
        state.withLock { state in
            state.readers.append(continuation)
            continuation.yield(state.snapshot)
        }
        return stream
    }

    /// Changes one pod, and its place in the list of endpoints with it, as when it becomes ready. The mark comes out in its
    /// workload's revision.
    func change(_ index: Int, mark: String) {
        state.withLock { state in
            let index = index % state.names.count
            let name = state.names[index]
            guard var pod = state.snapshot.pods[name] else { return }
            pod.metadata.labels["service.istio.io/canonical-revision"] = mark
            state.snapshot.insert(.pod(pod))
            let (service, place) = (index % services, index / services)
            let slice = ObjectName(namespace: name.namespace, name: "service-\(service)-\(place / 100 * 100)")
            state.snapshot.endpointSlices[slice]?.endpoints[place % 100].isReady?.toggle()
            state.snapshot.version += 1
            for reader in state.readers { reader.yield(state.snapshot) }
        }
    }

    /// Changes one service: everything is translated anew.
    func changeService(_ index: Int, port: UInt16) {
        state.withLock { state in
            var service = Self.service(index)
            service.spec.ports.append(ServicePort(name: "extra", port: port))
            state.snapshot.insert(.service(service))
            state.snapshot.version += 1
            for reader in state.readers { reader.yield(state.snapshot) }
        }
    }

    private static func namespace(_ service: Int) -> String { "namespace-\(service / 20)" }
    private static func node(_ index: Int) -> String { "node-pool-a-\(index).example.internal" }

    private static func service(_ index: Int) -> ServiceObject {
        ServiceObject(
            metadata: ObjectMeta(name: "service-\(index)", namespace: namespace(index)),
            spec: ServiceSpec(
                selector: ["app": "service-\(index)"],
                clusterIPs: ["10.\(96 + index >> 16).\(index >> 8 & 255).\(index & 255)"],
                ports: [
                    ServicePort(name: "http", port: 80, target: .number(8080)),
                    ServicePort(name: "metrics", port: 9090),
                ], ipFamilies: [.v4]))
    }

    private static func endpoint(_ pod: Pod) -> SliceEndpoint {
        SliceEndpoint(
            addresses: pod.status.podIPs, isReady: true, nodeName: pod.spec.nodeName,
            target: ObjectReference(
                kind: "Pod", name: pod.metadata.name, namespace: pod.metadata.namespace, uid: pod.metadata.uid))
    }

    private static func slice(_ service: Int, _ start: Int, _ endpoints: [SliceEndpoint]) -> EndpointSlice {
        EndpointSlice(
            metadata: ObjectMeta(
                name: "service-\(service)-\(start)", namespace: namespace(service),
                labels: [EndpointSlice.serviceNameLabel: "service-\(service)"]),
            addressType: .v4, endpoints: endpoints,
            ports: [SlicePort(name: "http", port: 8080), SlicePort(name: "metrics", port: 9090)])
    }

    private static func pod(_ index: Int, service: Int) -> Pod {
        let app = "service-\(service)"
        let hash = String(UInt64(service) &* 0xff51_afd7_ed55_8ccd, radix: 36).prefix(9)
        let suffix = String(UInt64(index) &* 0x9e37_79b9_7f4a_7c15, radix: 36).prefix(6)
        return Pod(
            metadata: ObjectMeta(
                name: "\(app)-\(hash)-\(suffix)", namespace: namespace(service), uid: "uid-\(index)",
                generateName: "\(app)-\(hash)-",
                labels: ["app": app, "version": "v\(service % 3)", "pod-template-hash": String(hash)],
                annotations: [MeshLabel.redirection: MeshLabel.redirectionEnabled],
                owners: [OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: "\(app)-\(hash)")]),
            spec: PodSpec(
                serviceAccountName: "\(app)-account", nodeName: node(index / 10),
                containers: [Container(name: "main", ports: [ContainerPort(name: "http", port: 8080)])]),
            status: PodStatus(
                phase: .running, podIPs: ["11.\(index >> 16).\(index >> 8 & 255).\(index & 255)"], isReady: true))
    }
}
