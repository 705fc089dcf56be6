import Foundation
import Yams

/// What Apus takes from Istio's mesh configuration, the key `mesh` of the ConfigMap `istio`. The rest of it is about other
/// proxies.
public struct IstioMeshConfig: Hashable, Sendable {
    /// Who sees the hosts of a service entry.
    public enum EntryVisibility: String, Hashable, Sendable, CaseIterable {
        case everywhere = "PUBLIC"
        /// Clients of its own namespace.
        case namespace = "NAMESPACE"
        case none = "NONE"
        /// Istio's word for the default.
        case unspecified = "UNSPECIFIED"
    }

    /// Service entries of namespaces that every one of the selectors matches.
    public struct VisibilityPolicy: Hashable, Sendable {
        public var namespaces: [LabelSelector]
        public var visibility: EntryVisibility
    }

    /// Whether other clusters are told of a service.
    public enum Scope: String, Hashable, Sendable, CaseIterable {
        case local = "LOCAL"
        case global = "GLOBAL"
    }

    /// Services that a selector matches, in namespaces that the other matches.
    public struct ServiceScope: Hashable, Sendable {
        public var namespaces: LabelSelector
        public var services: LabelSelector
        public var scope: Scope

        public init(
            namespaces: LabelSelector = LabelSelector(), services: LabelSelector = LabelSelector(), scope: Scope
        ) {
            self.namespaces = namespaces
            self.services = services
            self.scope = scope
        }
    }

    /// `nil` where it says none, as in all of these.
    public var trustDomain: String?
    /// Trust domains that stand for the same mesh.
    public var trustDomainAliases: [String] = []
    public var rootNamespace: String?
    /// Namespaces that one of them matches are the mesh's; all are when there is none.
    public var discoverySelectors: [LabelSelector] = []
    /// The first that matches counts; else the default, which is ``EntryVisibility/everywhere`` unless given.
    public var visibilityPolicies: [VisibilityPolicy] = []
    public var defaultVisibility: EntryVisibility?
    /// The first that matches counts; a service that none matches is for its own cluster alone.
    public var serviceScopes: [ServiceScope] = []

    public init() {}

    /// Reads a file of at most 1 MiB.
    public init(file path: String) throws(ObjectProblem) {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ObjectProblem(file: path, message: "cannot be read")
        }
        guard data.count <= 1 << 20 else { throw ObjectProblem(file: path, message: "is larger than 1 MiB") }
        try self.init(yaml: String(decoding: data, as: UTF8.self), name: path)
    }

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
        trustDomainAliases = try fields.strings("trustDomainAliases") ?? []
        rootNamespace = try fields.string("rootNamespace").flatMap { $0.isEmpty ? nil : $0 }
        for selector in try fields.objects("discoverySelectors") ?? [] {
            discoverySelectors.append(try LabelSelector(selector))
        }
        for scope in try fields.objects("serviceScopeConfigs") ?? [] {
            try scope.expectOnly(["namespaceSelector", "servicesSelector", "scope"])
            serviceScopes.append(
                ServiceScope(
                    namespaces: try LabelSelector(scope.object("namespaceSelector")),
                    services: try LabelSelector(scope.object("servicesSelector")),
                    scope: try scope.choice("scope", Scope.self) ?? .local))
        }
        if let visibility = try fields.object("serviceEntryVisibility") { try read(visibility) }
    }

    /// What is not known here is refused: passed over, it could show to all what is meant for some.
    private mutating func read(_ fields: Fields) throws(ObjectProblem) {
        try fields.expectOnly(["defaultVisibility", "policies", "applyToSidecars"])
        defaultVisibility = try fields.choice("defaultVisibility", EntryVisibility.self)
        for policy in try fields.objects("policies") ?? [] {
            try policy.expectOnly(["visibility", "matchingRules"])
            var namespaces: [LabelSelector] = []
            for rule in try policy.objects("matchingRules") ?? [] {
                try rule.expectOnly(["namespaceSelector"])
                guard let selector = try rule.object("namespaceSelector") else {
                    throw rule.problem("namespaceSelector", "is missing")
                }
                namespaces.append(try LabelSelector(selector))
            }
            visibilityPolicies.append(
                VisibilityPolicy(
                    namespaces: namespaces,
                    visibility: try policy.choice("visibility", EntryVisibility.self) ?? .unspecified))
        }
    }
}
