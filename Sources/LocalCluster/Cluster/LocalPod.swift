import Addressing
import Foundation
import Glibc
import LinuxNetwork

/// A pod of a local cluster: a namespace that the CNI chain attached, and the command that runs in it.
public final class LocalPod: Sendable {
    public let manifest: PodManifest
    public let node: LocalNode
    public let container: ContainerNetwork.Container
    /// As the CNI chain reported them, IPv4 first.
    public let addresses: [IPAddress]
    /// `nil` when the manifest has no command.
    public let process: ChildProcess?
    public let controlSocket: String
    public let log: String

    init(
        manifest: PodManifest, node: LocalNode, container: ContainerNetwork.Container, addresses: [IPAddress],
        process: ChildProcess?, controlSocket: String, log: String
    ) {
        self.manifest = manifest
        self.node = node
        self.container = container
        self.addresses = addresses
        self.process = process
        self.controlSocket = controlSocket
        self.log = log
    }

    public var key: String { manifest.key }
    public var namespacePath: String { container.namespace }

    public func address(_ family: IPAddress.Family) throws -> IPAddress {
        guard let address = addresses.first(where: { $0.family == family }) else {
            throw LocalClusterError(.attachment, "pod \(key) has no address of family IP\(family)")
        }
        return address
    }

    /// Talks to the pod's traffic program.
    public func client() throws -> PodClientConnection {
        try PodClientConnection(path: controlSocket, pod: key)
    }

    /// What is in force in the pod's namespace.
    public func kernelState() throws -> KernelState { try KernelState(namespace: namespacePath) }
}
