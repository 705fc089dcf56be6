import Kubernetes

/// How the lists and maps of Kubernetes's own kinds are merged, as its published schemas say it
/// (`x-kubernetes-list-type`, `x-kubernetes-list-map-keys`, `x-kubernetes-patch-merge-key`, `x-kubernetes-map-type`).
///
/// Of other kinds only what every object has is known: their lists are replaced as a whole, but for conditions.
struct ListKeys: Hashable, Sendable {
    enum ListKind: Hashable, Sendable {
        case atomic
        /// A value is there once.
        case set
        /// Elements are told apart by these members. A strategic merge patch looks at the first alone.
        case map([String])
    }

    var kind: String
    var isBuiltIn: Bool

    /// - Parameter path: Names of fields on the way, elements of lists left out.
    func list(at path: [String]) -> ListKind {
        guard let name = path.last else { return .atomic }
        let parent = path.count > 1 ? path[path.count - 2] : ""
        switch (parent, name) {
        case ("metadata", "finalizers"): return .set
        case ("metadata", "ownerReferences"): return .map(["uid"])
        case ("status", "conditions"): return kind == "Job" ? .atomic : .map(["type"])
        default: break
        }
        guard isBuiltIn else { return .atomic }
        switch (parent, name) {
        case ("spec", "ports") where kind == "Service": return .map(["port", "protocol"])
        case ("containers", "ports"), ("initContainers", "ports"), ("ephemeralContainers", "ports"):
            return .map(["containerPort", "protocol"])
        case ("status", "addresses") where kind == "Node": return .map(["type"])
        case ("spec", "podCIDRs"): return .set
        case ("", "secrets") where kind == "ServiceAccount": return .map(["name"])
        case ("", "imagePullSecrets"), ("spec", "imagePullSecrets"), ("spec", "schedulingGates"),
            ("spec", "resourceClaims"), ("spec", "volumes"), ("spec", "containers"), ("spec", "initContainers"),
            ("spec", "ephemeralContainers"):
            return .map(["name"])
        case ("spec", "hostAliases"): return .map(["ip"])
        case ("spec", "topologySpreadConstraints"): return .map(["topologyKey", "whenUnsatisfiable"])
        case ("status", "podIPs"): return .map(["ip"])
        default: break
        }
        guard ["containers", "initContainers", "ephemeralContainers"].contains(parent) else { return .atomic }
        return switch name {
        case "env": .map(["name"])
        case "volumeMounts": .map(["mountPath"])
        case "volumeDevices": .map(["devicePath"])
        default: .atomic
        }
    }

    /// Whether a map is owned as a whole.
    func isAtomicMap(at path: [String]) -> Bool {
        guard isBuiltIn, let name = path.last else { return false }
        let parent = path.count > 1 ? path[path.count - 2] : ""
        return switch name {
        case "selector", "nodeSelector", "podSelector", "namespaceSelector", "labelSelector", "objectSelector": true
        case "configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef", "roleRef", "targetRef": true
        case "involvedObject", "regarding", "related": parent.isEmpty
        default: false
        }
    }

    /// What tells an element of a list from others; `nil` where a member that must be there is missing.
    func key(of element: JSON, _ names: [String]) -> JSON? {
        var key: [String: JSON] = [:]
        for name in names {
            // A port without a protocol is one of TCP.
            guard let value = element[name] ?? (name == "protocol" ? JSON?.some("TCP") : JSON?.none) else {
                return nil
            }
            key[name] = value
        }
        return .object(key)
    }
}
