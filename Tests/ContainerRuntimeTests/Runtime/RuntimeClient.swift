import Addressing
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import LocalCluster

/// Speaks to a container runtime as a kubelet does.
struct RuntimeClient: Sendable {
    typealias Transport = HTTP2ClientTransport.Posix

    private let service: Runtime_V1_RuntimeService.Client<Transport>
    private let cgroup: String

    /// A kubelet waits longer; here an answer that takes this long is a failure.
    private static let options: CallOptions = {
        var options = CallOptions.defaults
        options.timeout = .seconds(60)
        return options
    }()

    /// Runs `body` with a connection to the runtime.
    static func connected<Result: Sendable>(
        to runtime: ContainerRuntime, _ body: (RuntimeClient) async throws -> Result
    ) async throws -> Result {
        let config = Transport.Config.defaults { $0.http2.authority = "localhost" }
        let transport = try Transport(
            target: .unixDomainSocket(path: runtime.socket), transportSecurity: .plaintext, config: config)
        return try await withGRPCClient(transport: transport) { client in
            try await body(RuntimeClient(service: .init(wrapping: client), cgroup: runtime.cgroup))
        }
    }

    /// Name and version of the runtime.
    func version() async throws -> String {
        let answer = try await service.version(.with { $0.version = "v1" }, options: Self.options)
        return "\(answer.runtimeName) \(answer.runtimeVersion)"
    }

    /// What the runtime says it lacks; nothing when it can make pods.
    func complaints() async throws -> [String] {
        let answer = try await service.status(.init(), options: Self.options)
        return answer.status.conditions.filter { !$0.status }.map { "\($0.type): \($0.reason) \($0.message)" }
    }

    // MARK: Sandboxes

    /// Makes a pod's sandbox: its namespaces, its network, and what holds them.
    /// - Returns: The sandbox's id.
    func runSandbox(_ pod: RuntimePod) async throws -> String {
        try await service.runPodSandbox(.with { $0.config = configuration(of: pod) }, options: Self.options)
            .podSandboxID
    }

    /// The addresses that the plugins gave a sandbox, and the path of its network namespace as the runtime sees it.
    func network(of sandbox: String) async throws -> (addresses: [IPAddress], namespace: String) {
        let answer = try await service.podSandboxStatus(
            .with {
                $0.podSandboxID = sandbox
                $0.verbose = true
            }, options: Self.options)
        let network = answer.status.network
        let addresses = ([network.ip] + network.additionalIps.map(\.ip)).compactMap { IPAddress($0) }
        let details = try JSONDecoder().decode(Details.self, from: Data((answer.info["info"] ?? "{}").utf8))
        let namespace = details.runtimeSpec?.linux.namespaces.first { $0.type == "network" }?.path
        return (addresses, namespace ?? "")
    }

    func sandboxes() async throws -> [Runtime_V1_PodSandbox] {
        try await service.listPodSandbox(.init(), options: Self.options).items
    }

    /// Ends a sandbox and what runs in it, and removes it.
    func remove(sandbox: String) async throws {
        _ = try await service.stopPodSandbox(.with { $0.podSandboxID = sandbox }, options: Self.options)
        _ = try await service.removePodSandbox(.with { $0.podSandboxID = sandbox }, options: Self.options)
    }

    private func configuration(of pod: RuntimePod) -> Runtime_V1_PodSandboxConfig {
        .with { config in
            config.metadata.name = pod.name
            config.metadata.namespace = pod.namespace
            config.metadata.uid = pod.uid
            config.hostname = pod.name
            config.linux.cgroupParent = cgroup
        }
    }

    /// The part of containerd's own report that the test reads.
    private struct Details: Decodable {
        struct Specification: Decodable {
            struct Linux: Decodable { let namespaces: [Namespace] }
            struct Namespace: Decodable {
                let type: String
                let path: String?
            }
            let linux: Linux
        }
        let runtimeSpec: Specification?
    }

    // MARK: Containers

    /// Starts the program of the test's image in a sandbox.
    /// - Returns: The container's id.
    func start(_ arguments: [String], in sandbox: String, of pod: RuntimePod) async throws -> String {
        let container = try await service.createContainer(
            .with { request in
                request.podSandboxID = sandbox
                request.sandboxConfig = configuration(of: pod)
                request.config.metadata.name = "first"
                request.config.image.image = RuntimeImage.first
                request.config.args = arguments
            }, options: Self.options
        ).containerID
        _ = try await service.startContainer(.with { $0.containerID = container }, options: Self.options)
        return container
    }

    func status(of container: String) async throws -> Runtime_V1_ContainerStatus {
        try await service.containerStatus(.with { $0.containerID = container }, options: Self.options).status
    }
}

/// A pod that the runtime is asked for.
struct RuntimePod: Sendable, Hashable {
    let namespace: String
    let name: String
    let uid = UUID().uuidString.lowercased()

    var key: String { "\(namespace)/\(name)" }

    /// The object, as a user or a deployment makes it.
    func yaml(node: String) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          name: \(name)
          namespace: \(namespace)
          uid: \(uid)
          labels:
            app: \(name)
        spec:
          serviceAccountName: default
          nodeName: \(node)
          containers:
            - name: first
              image: \(RuntimeImage.first)

        """
    }
}
