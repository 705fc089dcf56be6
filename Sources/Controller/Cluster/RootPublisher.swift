import Kubernetes
import Logging
import ObjectSource
import Synchronization

/// Keeps the mesh's roots in a ConfigMap of every namespace, for as long as this program leads. Whatever somebody makes of
/// one is put right.
final class RootPublisher: Sendable {
    static let name = "istio-ca-root-cert"
    static let key = "root-cert.pem"
    static let label = "istio.io/config"

    private struct State {
        var roots = ""
        var namespaces: Set<String> = []
        /// By namespace: what is there.
        var there: [String: String] = [:]
        var isRead = false
    }

    private let client: KubernetesClient
    private let reflection: ReflectorSettings
    private let log: Logger
    private let writer: PacedWriter<String>
    private let state = Mutex(State())

    init(_ client: KubernetesClient, reflection: ReflectorSettings, log: Logger) {
        self.client = client
        self.reflection = reflection
        self.log = log
        writer = PacedWriter("the mesh's roots", log: log)
    }

    /// - Parameter roots: PEM.
    func publish(_ roots: String) {
        state.withLock { $0.roots = roots }
        writer.notify()
    }

    func update(_ objects: ObjectSnapshot) {
        let namespaces = objects.namespaces.values.filter { !$0.metadata.isBeingDeleted }.map(\.metadata.name)
        state.withLock { $0.namespaces = Set(namespaces) }
        writer.notify()
    }

    /// Runs until the task is cancelled.
    func run() async {
        let follower = ObjectFollower(
            client, .configMaps, ObjectSelection(fields: "metadata.name=\(Self.name)"), settings: reflection, log: log)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await follower.run { self.heard($0) } }
            group.addTask {
                await self.writer.run(due: { self.due() }) { namespace throws(KubernetesError) in
                    try await self.write(in: namespace)
                }
            }
        }
    }

    private func heard(_ news: ObjectFollower.News) {
        func entry(_ node: DocumentNode) -> (String, String)? {
            guard let namespace = node["metadata"]?["namespace"]?.string,
                node["metadata"]?["name"]?.string == Self.name
            else { return nil }
            return (namespace, node["data"]?[Self.key]?.string ?? "")
        }
        state.withLock { state in
            switch news {
            case .all(let nodes):
                state.there = Dictionary(nodes.compactMap(entry)) { $1 }
                state.isRead = true
            case .changed(let node): if let (namespace, text) = entry(node) { state.there[namespace] = text }
            case .gone(let node): if let (namespace, _) = entry(node) { state.there[namespace] = nil }
            }
        }
        writer.notify()
    }

    private func due() -> [String] {
        state.withLock { state in
            guard state.isRead, !state.roots.isEmpty else { return [] }
            return state.namespaces.filter { state.there[$0] != state.roots }
        }
    }

    private func write(in namespace: String) async throws(KubernetesError) {
        let roots = state.withLock { $0.roots }
        try await client.patch(
            .configMaps, Self.name,
            .apply(
                [
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": [
                        "name": .string(Self.name), "namespace": .string(namespace), "labels": [Self.label: "true"],
                    ],
                    "data": [Self.key: .string(roots)],
                ], force: true), namespace: namespace)
        state.withLock { $0.there[namespace] = roots }
    }
}
