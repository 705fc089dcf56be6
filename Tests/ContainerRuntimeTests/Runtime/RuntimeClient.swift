import Addressing
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import LocalCluster

/// Speaks to a container runtime as a kubelet does.
struct RuntimeClient: Sendable {
    private typealias Transport = HTTP2ClientTransport.Posix
    private typealias Service = Runtime_V1_RuntimeService.Client<Transport>

    private let socket: String
    private let cgroup: String

    init(_ runtime: ContainerRuntime) {
        socket = runtime.socket
        cgroup = runtime.cgroup
    }

    /// A kubelet waits longer; here an answer that takes this long is a failure.
    private static let options: CallOptions = {
        var options = CallOptions.defaults
        options.timeout = .seconds(60)
        return options
    }()

    /// A connection for every call: Go's server resets each stream when it has answered, and the library here takes two
    /// hundred such resets on one connection for an attack.
    private func call<Result: Sendable>(
        _ body: @Sendable (Service, CallOptions) async throws -> Result
    ) async throws -> Result {
        let config = Transport.Config.defaults { $0.http2.authority = "localhost" }
        let transport = try Transport(
            target: .unixDomainSocket(path: socket), transportSecurity: .plaintext, config: config)
        return try await withGRPCClient(transport: transport) { try await body(Service(wrapping: $0), Self.options) }
    }

    /// Name and version of the runtime.
    func version() async throws -> String {
        let answer = try await call { try await $0.version(.with { $0.version = "v1" }, options: $1) }
        return "\(answer.runtimeName) \(answer.runtimeVersion)"
    }

    /// What the runtime says it lacks; nothing when it can make pods.
    func complaints() async throws -> [String] {
        let answer = try await call { try await $0.status(.init(), options: $1) }
        return answer.status.conditions.filter { !$0.status }.map { "\($0.type): \($0.reason) \($0.message)" }
    }

    /// The lists of plugins that the runtime has loaded, as it tells of them.
    func loadedConfiguration() async throws -> String {
        let request = Runtime_V1_StatusRequest.with { $0.verbose = true }
        return try await call { try await $0.status(request, options: $1) }.info["cniconfig"] ?? ""
    }

    // MARK: Sandboxes

    /// Makes a pod's sandbox: its namespaces, its network, and what holds them.
    /// - Returns: The sandbox's id.
    func runSandbox(_ pod: RuntimePod) async throws -> String {
        let request = Runtime_V1_RunPodSandboxRequest.with { $0.config = configuration(of: pod) }
        return try await call { try await $0.runPodSandbox(request, options: $1) }.podSandboxID
    }

    /// The addresses that the plugins gave a sandbox, and the path of its network namespace as the runtime sees it.
    func network(of sandbox: String) async throws -> (addresses: [IPAddress], namespace: String) {
        let request = Runtime_V1_PodSandboxStatusRequest.with {
            $0.podSandboxID = sandbox
            $0.verbose = true
        }
        let answer = try await call { try await $0.podSandboxStatus(request, options: $1) }
        let network = answer.status.network
        let addresses = ([network.ip] + network.additionalIps.map(\.ip)).compactMap { IPAddress($0) }
        let details = try JSONDecoder().decode(Details.self, from: Data((answer.info["info"] ?? "{}").utf8))
        let namespace = details.runtimeSpec?.linux.namespaces.first { $0.type == "network" }?.path
        return (addresses, namespace ?? "")
    }

    func sandboxes() async throws -> [Runtime_V1_PodSandbox] {
        try await call { try await $0.listPodSandbox(.init(), options: $1) }.items
    }

    /// Ends a sandbox and what runs in it, and removes it.
    func remove(sandbox: String) async throws {
        _ = try await call { try await $0.stopPodSandbox(.with { $0.podSandboxID = sandbox }, options: $1) }
        _ = try await call { try await $0.removePodSandbox(.with { $0.podSandboxID = sandbox }, options: $1) }
    }

    private func configuration(of pod: RuntimePod) -> Runtime_V1_PodSandboxConfig {
        .with { config in
            config.metadata.name = pod.name
            config.metadata.namespace = pod.namespace
            config.metadata.uid = pod.uid
            config.hostname = pod.name
            // As a kubelet with the driver cgroupfs names them.
            config.linux.cgroupParent = "\(cgroup)/kubepods/besteffort/pod\(pod.uid)"
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
        let request = Runtime_V1_CreateContainerRequest.with { request in
            request.podSandboxID = sandbox
            request.sandboxConfig = configuration(of: pod)
            request.config.metadata.name = "first"
            request.config.image.image = RuntimeImage.first
            request.config.args = arguments
        }
        let container = try await call { try await $0.createContainer(request, options: $1) }.containerID
        _ = try await call { try await $0.startContainer(.with { $0.containerID = container }, options: $1) }
        return container
    }

    func status(of container: String) async throws -> Runtime_V1_ContainerStatus {
        try await call { try await $0.containerStatus(.with { $0.containerID = container }, options: $1) }.status
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
