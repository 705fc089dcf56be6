import ArgumentParser
import Controller
import Foundation
import Identity
import Kubernetes
import ObjectSource

/// What `apus controller` is told of the cluster it serves.
struct ControllerClusterOptions: ParsableArguments {
    @OptionGroup var cluster: ClusterOptions

    @Option(
        help: """
            With a cluster: the controller's own namespace, of its Lease and the authority's Secrets; POD_NAMESPACE, or \
            istio-system, unless given.
            """)
    var namespace: String?

    @Option(
        help: """
            With a cluster: a folder with the authority to use (ca-cert.pem, ca-key.pem, root-cert.pem, \
            cert-chain.pem). Unless given, the Secret cacerts is used and, without that one, an authority is made.
            """)
    var authorityFolder: String?

    @Option(
        help: """
            With a cluster: check callers' tokens by the cluster's public keys in this file (/openid/v1/jwks), not by \
            the API server's TokenReview.
            """)
    var jwks: String?

    @Option(help: "With --jwks: who issues the cluster's tokens, as the API server's --service-account-issuer has it.")
    var tokenIssuer: String?

    @Option(help: "With a cluster: audiences of callers' tokens, separated by commas.")
    var tokenAudiences = "istio-ca"

    @Option(
        help: """
            With a cluster: service accounts (namespace/name, separated by commas) whose pods may ask for identities of \
            pods on their node; ztunnel of the own namespace unless given.
            """)
    var trustedNodeAccounts: String?

    @Flag(
        help: """
            With a cluster: follow the other clusters of the mesh too, whose kubeconfigs are in Secrets of the own namespace \
            with the label istio/multiCluster=true, as istioctl create-remote-secret makes them.
            """)
    var multiCluster = false

    func check() throws {
        try cluster.check()
        if tokenIssuer != nil, jwks == nil { throw ValidationError("--token-issuer: means nothing without --jwks") }
        if let jwks, tokenIssuer == nil {
            throw ValidationError("--jwks \(jwks): --token-issuer must say who issues the tokens")
        }
        guard !audiences.isEmpty else { throw ValidationError("--token-audiences: expected at least one") }
        _ = try nodeAccounts()
    }

    /// That folders are given and none of this has a meaning.
    func checkUnused() throws {
        for (name, isGiven) in [
            ("namespace", namespace != nil), ("authority-folder", authorityFolder != nil), ("jwks", jwks != nil),
            ("trusted-node-accounts", trustedNodeAccounts != nil), ("multi-cluster", multiCluster),
        ] where isGiven { throw ValidationError("--\(name): means nothing without a cluster") }
    }

    private var audiences: [String] { Self.list(tokenAudiences) }

    static func list(_ text: String) -> [String] {
        text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }

    static func environment(_ name: String) -> String? {
        ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    var ownNamespace: String { namespace ?? Self.environment("POD_NAMESPACE") ?? MeshLabel.rootNamespace }

    private func nodeAccounts() throws -> Set<ObjectName> {
        guard let trustedNodeAccounts else { return [ObjectName(namespace: ownNamespace, name: "ztunnel")] }
        return Set(
            try trustedNodeAccounts.split(separator: ",").map { item in
                let parts = item.trimmingCharacters(in: .whitespaces).split(
                    separator: "/", omittingEmptySubsequences: false)
                guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty }) else {
                    throw ValidationError("--trusted-node-accounts: \"\(item)\" is no namespace/name")
                }
                return ObjectName(namespace: String(parts[0]), name: String(parts[1]))
            })
    }

    func configure(_ settings: inout ClusterControllerSettings) throws {
        settings.namespace = ownNamespace
        settings.authorityFolder = authorityFolder
        settings.audiences = audiences
        settings.followsOtherClusters = multiCluster
        settings.nodeAccounts = try nodeAccounts()
        if let jwks, let tokenIssuer { settings.tokenCheck = .keys(file: jwks, issuer: tokenIssuer) }
    }

    /// The pod's name, with something random: a pod that is made anew may have the name of the one before.
    static var identity: String {
        let name = environment("POD_NAME") ?? ProcessInfo.processInfo.hostName
        return "\(name)_\(String(UInt64.random(in: .min ... .max), radix: 16))"
    }
}
