import Addressing
import CNI
import Foundation
import Glibc
import LinuxNetwork

/// A container runtime's side of CNI: runs a list of plugins, each with the result of the one before, and keeps the
/// result for DEL and CHECK.
public struct ContainerNetwork: Sendable {
    /// What a runtime says about a container.
    public struct Container: Sendable, Hashable, Codable {
        public var id: String
        /// Path of its network namespace.
        public var namespace: String
        public var interface = "eth0"
        public var podName: String
        public var podNamespace: String
        public var podUID: String

        public init(id: String, namespace: String, podName: String, podNamespace: String, podUID: String) {
            self.id = id
            self.namespace = namespace
            self.podName = podName
            self.podNamespace = podNamespace
            self.podUID = podUID
        }

        var arguments: String {
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=\(podNamespace);K8S_POD_NAME=\(podName);"
                + "K8S_POD_INFRA_CONTAINER_ID=\(id);K8S_POD_UID=\(podUID)"
        }
    }

    let list: ConfigurationList
    let pluginFolders: [String]
    /// Where results are kept.
    let cache: String
    /// The node's namespace: where the plugins run.
    let namespace: String

    /// - Parameter list: the text of a `.conflist`.
    init(list: String, pluginFolders: [String], cache: String, namespace: String) throws {
        self.list = try ConfigurationList(Array(list.utf8))
        self.pluginFolders = pluginFolders
        self.cache = cache
        self.namespace = namespace
        try Files.makeFolder(cache, mode: 0o700)
    }

    /// Attaches a container: every plugin in order. After a failure it is detached again.
    /// - Parameter initial: a result that stands for plugins that are not run here.
    /// - Returns: The addresses of the last result.
    @discardableResult
    public func add(_ container: Container, after initial: String? = nil) throws -> [IPAddress] {
        var result = initial
        do {
            for index in list.plugins.indices { result = try run(index, "ADD", container, previous: result).text }
        } catch {
            // The chain's own error is the one to tell; what DEL says of a half-made attachment is of no use.
            try? delete(container)
            throw error
        }
        let text = result ?? "{}"
        try Files.replace(cachePath(container), with: text, mode: 0o600)
        return try AttachmentResult(Self.parse(text)).addresses.map(\.address)
    }

    /// Detaches a container: every plugin in reverse order. That it was never attached is no error.
    public func delete(_ container: Container) throws {
        let result = Files.text(cachePath(container))
        for index in list.plugins.indices.reversed() { try run(index, "DEL", container, previous: result) }
        try Files.remove(cachePath(container))
    }

    /// Asks every plugin whether what it made still holds.
    public func check(_ container: Container) throws {
        guard let result = Files.text(cachePath(container)) else {
            throw LocalClusterError(.attachment, "container \(container.id) was not attached")
        }
        for index in list.plugins.indices { try run(index, "CHECK", container, previous: result) }
    }

    private func cachePath(_ container: Container) -> String {
        "\(cache)/\(list.name)-\(container.id)-\(container.interface)"
    }

    private static func parse(_ text: String) throws -> JSONValue { try JSONReader.read(Array(text.utf8)) }

    @discardableResult
    private func run(
        _ index: Int, _ verb: String, _ container: Container, previous: String?
    ) throws -> Command.Result {
        let type = list.type(ofPlugin: index)
        guard let path = Programs.find(type, in: pluginFolders) else {
            throw LocalClusterError(.environment, "no CNI plugin \(type) in \(pluginFolders.joined(separator: ", "))")
        }
        var command = Command([path], namespace: namespace)
        command.input = Data(list.request(forPlugin: index, previousResult: try previous.map(Self.parse)))
        command.environment = Launcher.environment(adding: [
            "CNI_COMMAND": verb, "CNI_CONTAINERID": container.id, "CNI_NETNS": container.namespace,
            "CNI_IFNAME": container.interface, "CNI_ARGS": container.arguments,
            "CNI_PATH": pluginFolders.joined(separator: ":"),
        ])
        let result = try command.run()
        guard result.status == 0 else {
            // The specification's error object is on standard output; what else there is may help too.
            let said = String(decoding: result.output + result.errors, as: UTF8.self)
            throw LocalClusterError(
                .attachment,
                "\(type) \(verb) of \(container.podNamespace)/\(container.podName): "
                    + said.split(whereSeparator: \.isWhitespace).joined(separator: " "))
        }
        return result
    }
}
