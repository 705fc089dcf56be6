import Yams

/// What Apus takes from Istio's mesh configuration, the key `mesh` of the ConfigMap `istio`. The rest of it is about other
/// proxies.
public struct IstioMeshConfig: Hashable, Sendable {
    /// `nil` where it says none, as in all of these.
    public var trustDomain: String?
    public var rootNamespace: String?
    /// Namespaces that one of them matches are the mesh's; all are when there is none.
    public var discoverySelectors: [LabelSelector] = []

    public init() {}

    /// Reads the YAML. Fields that are not looked at may be anything.
    public init(yaml: String, name: String) throws(ObjectProblem) {
        let node: Node?
        do {
            try YAMLGuard.check(Array(yaml.utf8))
            node = try compose(yaml: yaml)
        } catch let error as YAMLGuard.Refusal {
            throw ObjectProblem(file: name, line: error.line, message: error.message)
        } catch {
            throw ObjectProblem(file: name, message: "is no YAML")
        }
        guard let node else { return }
        let fields = try Fields(DocumentTree(node).root, file: name, path: "")
        trustDomain = try fields.string("trustDomain").flatMap { $0.isEmpty ? nil : $0 }
        rootNamespace = try fields.string("rootNamespace").flatMap { $0.isEmpty ? nil : $0 }
        for selector in try fields.objects("discoverySelectors") ?? [] {
            discoverySelectors.append(try LabelSelector(selector))
        }
    }
}
