import Foundation
import Yams

/// A file as `kubectl` has it, as far as it says how to reach one cluster.
public struct Kubeconfig: Sendable {
    private let content: Content
    /// What relative paths in it start from.
    private let folder: String

    /// - Throws: `configuration` when the file cannot be read or is none.
    public init(path: String) throws(KubernetesError) {
        let bytes: [UInt8]
        do {
            bytes = try FileStamp.read(path)
        } catch {
            throw KubernetesError(.configuration, error.message, cause: error.cause)
        }
        try self.init(
            String(decoding: bytes, as: UTF8.self), name: path,
            folder: URL(fileURLWithPath: path).deletingLastPathComponent().path)
    }

    /// One that comes from elsewhere, as from a Secret. It may name nothing of this machine, neither files nor programs, and
    /// must say whom to believe.
    ///
    /// - Throws: `configuration` for one that does, or that is none.
    public init(foreign text: String, name: String) throws(KubernetesError) {
        try self.init(text, name: name, folder: "/")
        func refuse(_ field: String, _ isThere: Bool) throws(KubernetesError) {
            guard isThere else { return }
            throw KubernetesError(
                .configuration, "\(name) has \(field), which is not taken from a cluster",
                hint: "give certificates and keys by their -data fields, and a token")
        }
        for cluster in content.clusters ?? [] {
            try refuse("certificate-authority", cluster.cluster.authority?.isEmpty == false)
            try refuse("insecure-skip-tls-verify", cluster.cluster.insecure == true)
        }
        for user in (content.users ?? []).map(\.user) {
            try refuse("exec", user.exec != nil)
            try refuse("tokenFile", user.tokenFile?.isEmpty == false)
            try refuse("client-certificate", user.certificate?.isEmpty == false)
            try refuse("client-key", user.key?.isEmpty == false)
        }
    }

    init(_ text: String, name: String, folder: String) throws(KubernetesError) {
        do {
            content = try YAMLDecoder().decode(Content.self, from: text)
        } catch let error as DecodingError {
            throw KubernetesError(.configuration, "\(name) is no kubeconfig", cause: error.place)
        } catch {
            throw KubernetesError(.configuration, "\(name) is no kubeconfig", cause: "\(error)")
        }
        self.folder = folder
    }

    /// The configuration for a context; the file's current one unless named.
    public func configuration(context name: String? = nil) throws(KubernetesError) -> ClusterConfiguration {
        func missing(_ what: String, _ known: [String]) -> KubernetesError {
            KubernetesError(
                .configuration, "the kubeconfig has no \(what)",
                hint: known.isEmpty ? "" : "there is \(known.sorted().joined(separator: ", "))")
        }
        let contexts = content.contexts ?? []
        let wanted = name ?? content.currentContext ?? ""
        guard !wanted.isEmpty else { throw missing("current-context", contexts.map(\.name)) }
        guard let context = contexts.first(where: { $0.name == wanted })?.context else {
            throw missing("context \"\(wanted)\"", contexts.map(\.name))
        }
        let clusters = content.clusters ?? []
        guard let cluster = clusters.first(where: { $0.name == context.cluster })?.cluster else {
            throw missing("cluster \"\(context.cluster)\"", clusters.map(\.name))
        }
        let users = content.users ?? []
        var credentials = ClusterConfiguration.Credentials.none
        if let name = context.user, !name.isEmpty {
            guard let user = users.first(where: { $0.name == name })?.user else {
                throw missing("user \"\(name)\"", users.map(\.name))
            }
            credentials = try self.credentials(user, name)
        }
        return ClusterConfiguration(
            server: try server(cluster, context.cluster), trust: try trust(cluster, context.cluster),
            serverName: cluster.tlsServerName.flatMap { $0.isEmpty ? nil : $0 }, credentials: credentials,
            namespace: context.namespace.flatMap { $0.isEmpty ? nil : $0 } ?? "default")
    }

    // MARK: Clusters

    private func server(_ cluster: Cluster, _ name: String) throws(KubernetesError) -> String {
        if let proxy = cluster.proxyURL, !proxy.isEmpty {
            throw KubernetesError(
                .configuration, "cluster \"\(name)\" has a proxy-url, which is not supported", cause: proxy,
                hint: "reach the API server directly, or by a tunnel of your own")
        }
        var server = cluster.server
        while server.hasSuffix("/") { server.removeLast() }
        guard let url = URL(string: server), let host = url.host, !host.isEmpty,
            url.scheme == "https" || url.scheme == "http"
        else {
            throw KubernetesError(
                .configuration, "cluster \"\(name)\" has a server that is no address", cause: cluster.server,
                hint: "https://host:port is expected")
        }
        return server
    }

    private func trust(_ cluster: Cluster, _ name: String) throws(KubernetesError) -> ClusterConfiguration.Trust {
        let authority = try material(
            cluster.authorityData, cluster.authority, "cluster \"\(name)\": certificate-authority")
        if cluster.insecure == true {
            guard authority == nil else {
                throw KubernetesError(
                    .configuration, "cluster \"\(name)\" has a certificate authority and insecure-skip-tls-verify",
                    hint: "leave one of them out")
            }
            return .nobodyIsChecked
        }
        return authority.map { .authority($0) } ?? .system
    }

    // MARK: Users

    private func credentials(_ user: User, _ name: String) throws(KubernetesError) -> ClusterConfiguration.Credentials {
        let what = "user \"\(name)\""
        if let file = user.tokenFile, !file.isEmpty { return .tokenFile(absolute(file)) }
        if let token = user.token, !token.isEmpty { return .token(token.trimmed) }
        let chain = try material(user.certificateData, user.certificate, "\(what): client-certificate")
        let key = try material(user.keyData, user.key, "\(what): client-key")
        switch (chain, key) {
        case (let chain?, let key?): return .certificate(chain: chain, key: key)
        case (nil, nil): break
        default:
            throw KubernetesError(.configuration, "\(what) has a client certificate without a key, or a key without")
        }
        if let exec = user.exec { return .plugin(try plugin(exec, what)) }
        for (field, value) in [("username", user.username), ("auth-provider", user.authProvider?.name)]
        where value != nil {
            throw KubernetesError(
                .configuration, "\(what) has \(field), which is not supported",
                hint: "use a token, a client certificate or an exec plugin")
        }
        return .none
    }

    private func plugin(_ exec: Exec, _ what: String) throws(KubernetesError) -> ExecPlugin {
        guard ExecPlugin.apiVersions.contains(exec.apiVersion ?? "") else {
            throw KubernetesError(
                .configuration, "\(what) has an exec plugin of apiVersion \(exec.apiVersion ?? "none")",
                hint: "use \(ExecPlugin.apiVersions.joined(separator: " or "))")
        }
        guard exec.interactiveMode != "Always" else {
            throw KubernetesError(
                .configuration, "\(what) has an exec plugin that asks questions", hint: "nobody is here to answer them")
        }
        // A name alone is looked for in PATH; anything with a slash is a path.
        let command = exec.command.contains("/") ? absolute(exec.command) : exec.command
        return ExecPlugin(
            command: command, arguments: exec.args ?? [],
            environment: Dictionary((exec.env ?? []).map { ($0.name, $0.value) }) { $1 },
            apiVersion: exec.apiVersion ?? "", installHint: exec.installHint ?? "")
    }

    // MARK: Bytes and paths

    private func material(
        _ data: String?, _ file: String?, _ field: String
    ) throws(KubernetesError) -> ClusterConfiguration.Material? {
        if let data, !data.isEmpty {
            guard let bytes = Data(base64Encoded: data, options: .ignoreUnknownCharacters), !bytes.isEmpty else {
                throw KubernetesError(.configuration, "\(field)-data is no base64")
            }
            return .bytes([UInt8](bytes))
        }
        guard let file, !file.isEmpty else { return nil }
        return .file(absolute(file))
    }

    private func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : "\(folder)/\(path)" }
}
