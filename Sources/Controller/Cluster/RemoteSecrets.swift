import Foundation
import Kubernetes
import Logging
import ObjectSource
import Synchronization

/// Follows the Secrets that say how other clusters of the mesh are reached, as `istioctl create-remote-secret` writes them:
/// labelled, each key the name of a cluster, each value a kubeconfig.
final class RemoteSecrets: Sendable {
    static let label = "istio/multiCluster"

    private struct Connection {
        let secret: String
        let kubeconfig: String
        let client: KubernetesClient
        let source: ClusterObjectSource
    }

    private struct State {
        /// By cluster.
        var connections: [String: Connection] = [:]
        /// By Secret: its clusters and their kubeconfigs.
        var secrets: [String: [String: String]] = [:]
        var refused: [String: String] = [:]
    }

    private let client: KubernetesClient
    private let namespace: String
    private let ownCluster: String
    private let clusters: RemoteClusters
    private let reflection: ReflectorSettings
    private let log: Logger
    private let state = Mutex(State())

    /// - Parameters:
    ///   - namespace: Where the Secrets are.
    ///   - ownCluster: The name of the cluster this is, which no other may have.
    init(
        _ client: KubernetesClient, namespace: String, ownCluster: String, into clusters: RemoteClusters,
        reflection: ReflectorSettings, log: Logger
    ) {
        self.client = client
        self.namespace = namespace
        self.ownCluster = ownCluster
        self.clusters = clusters
        self.reflection = reflection
        self.log = log
    }

    /// Runs until the task is cancelled, and lets go of every cluster then.
    func run() async {
        let follower = ObjectFollower(
            client, .secrets, ObjectSelection(namespace: namespace, labels: "\(Self.label)=true"),
            settings: reflection, log: log)
        await follower.run { await self.heard($0) }
        let left = state.withLock { state in
            defer { state.connections = [:] }
            return state.connections.values
        }
        for connection in left { await close(connection) }
    }

    private func heard(_ news: ObjectFollower.News) async {
        state.withLock { state in
            switch news {
            case .all(let nodes):
                state.secrets = Dictionary(nodes.map { (Self.name($0), Self.kubeconfigs($0)) }) { $1 }
            case .changed(let node): state.secrets[Self.name(node)] = Self.kubeconfigs(node)
            case .gone(let node): state.secrets[Self.name(node)] = nil
            }
        }
        await settle()
        if case .all = news { clusters.listed() }
    }

    private static func name(_ secret: DocumentNode) -> String { secret["metadata"]?["name"]?.string ?? "" }

    private static func kubeconfigs(_ secret: DocumentNode) -> [String: String] {
        var result: [String: String] = [:]
        for (cluster, value) in secret["data"]?.fields ?? [] {
            result[cluster] =
                value.string.flatMap { Data(base64Encoded: $0) }.map { String(decoding: $0, as: UTF8.self) } ?? ""
        }
        return result
    }

    /// Makes the connections what the Secrets say. One that is as it was is left alone.
    private func settle() async {
        var wanted: [String: (secret: String, kubeconfig: String)] = [:]
        for (secret, clusters) in state.withLock({ $0.secrets }).sorted(by: { $0.key < $1.key }) {
            for (cluster, kubeconfig) in clusters {
                if let other = wanted[cluster] {
                    refuse(cluster, in: secret, "the Secret \(other.secret) names it already")
                } else if cluster == ownCluster {
                    refuse(cluster, in: secret, "it is the name of this cluster; give each cluster its own CLUSTER_ID")
                } else {
                    wanted[cluster] = (secret, kubeconfig)
                }
            }
        }
        let old = state.withLock { $0.connections }
        for (cluster, connection) in old where wanted[cluster]?.kubeconfig != connection.kubeconfig {
            state.withLock { $0.connections[cluster] = nil }
            if wanted[cluster] == nil {
                clusters.remove(cluster)
                log.info("a cluster is no longer followed", metadata: ["cluster": "\(cluster)"])
            }
            await close(connection)
        }
        for (cluster, wish) in wanted where state.withLock({ $0.connections[cluster] }) == nil {
            connect(cluster, wish)
        }
    }

    private func connect(_ cluster: String, _ wish: (secret: String, kubeconfig: String)) {
        do {
            let configuration = try Kubeconfig(
                foreign: wish.kubeconfig, name: "the Secret \(namespace)/\(wish.secret), \(cluster)"
            ).configuration()
            var settings = client.settings
            settings.fieldManager = "apus-controller"
            let remote = KubernetesClient(configuration, settings: settings)
            var log = log
            log[metadataKey: "cluster"] = "\(cluster)"
            let source = ClusterObjectSource(
                remote, ClusterControllerSettings.remoteInterests.map { .init($0) }, settings: reflection, log: log)
            state.withLock {
                $0.connections[cluster] = Connection(
                    secret: wish.secret, kubeconfig: wish.kubeconfig, client: remote, source: source)
                $0.refused[cluster] = nil
            }
            clusters.set(cluster, source)
            log.info(
                "another cluster is followed",
                metadata: ["cluster": "\(cluster)", "server": "\(configuration.server)"])
        } catch {
            // Who it was known by before counts no more: it may have been replaced because it is not to be believed.
            clusters.remove(cluster)
            refuse(cluster, in: wish.secret, "\(error)")
        }
    }

    /// Once for each reason.
    private func refuse(_ cluster: String, in secret: String, _ reason: String) {
        let old = state.withLock { $0.refused.updateValue(reason, forKey: cluster) }
        guard old != reason else { return }
        log.error(
            "a cluster cannot be followed",
            metadata: ["cluster": "\(cluster)", "secret": "\(namespace)/\(secret)", "reason": "\(reason)"])
    }

    private func close(_ connection: Connection) async {
        connection.source.close()
        await connection.client.close()
    }
}
