import ArgumentParser
import Foundation
import Kubernetes

/// How to reach the cluster whose objects are read.
struct ClusterOptions: ParsableArguments {
    @Flag(help: "Read the objects of the cluster that this pod is in, by its service account.")
    var inCluster = false

    @Option(help: "Read the objects of a cluster by a file as kubectl has it.")
    var kubeconfig: String?

    @Option(help: "With --kubeconfig: the context; the file's current one unless given.")
    var context: String?

    /// Whether a cluster is asked for at all.
    var isGiven: Bool { inCluster || kubeconfig != nil }

    func check() throws {
        guard !inCluster || kubeconfig == nil else {
            throw ValidationError("--in-cluster and --kubeconfig: give one of them")
        }
        guard context == nil || kubeconfig != nil else {
            throw ValidationError("--context \(context ?? ""): means nothing without --kubeconfig")
        }
    }

    /// - Parameter manager: Who writes, for the server's records of field owners.
    func client(manager: String) throws(KubernetesError) -> KubernetesClient {
        var settings = ClientSettings()
        settings.fieldManager = manager
        let configuration: ClusterConfiguration
        if let kubeconfig {
            configuration = try Kubeconfig(path: kubeconfig).configuration(context: context)
        } else {
            configuration = try .inCluster(environment: ProcessInfo.processInfo.environment)
        }
        return KubernetesClient(configuration, settings: settings)
    }
}
