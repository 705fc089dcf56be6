import Kubernetes

/// Who may do what, by the roles and bindings that are in the store.
struct Roles {
    let store: Store

    struct Action: Hashable {
        var verb: String
        var group: String
        /// With its subresource: `pods/status`.
        var resource: String
        /// Empty: of all namespaces, or of none.
        var namespace = ""
        /// Empty: of all objects.
        var name = ""
    }

    func allows(_ user: APIUser, _ action: Action) -> Bool {
        if user.groups.contains("system:masters") { return true }
        for binding in bindings("clusterrolebindings") where isSubject(user, binding) {
            if rules(of: binding, namespace: "").contains(where: { Self.allows($0, action) }) { return true }
        }
        guard !action.namespace.isEmpty else { return false }
        for binding in bindings("rolebindings") where binding.namespace == action.namespace && isSubject(user, binding)
        {
            if rules(of: binding, namespace: action.namespace).contains(where: { Self.allows($0, action) }) {
                return true
            }
        }
        return false
    }

    private func bindings(_ plural: String) -> some Sequence<JSON> {
        (store.objects["\(plural).rbac.authorization.k8s.io"] ?? [:]).values
    }

    private func isSubject(_ user: APIUser, _ binding: JSON) -> Bool {
        (binding["subjects"]?.list ?? []).contains { subject in
            let name = subject["name"]?.string ?? ""
            switch subject["kind"]?.string {
            case "User": return name == user.name
            case "Group": return user.groups.contains(name)
            case "ServiceAccount":
                return user.name == "system:serviceaccount:\(subject["namespace"]?.string ?? binding.namespace):\(name)"
            default: return false
            }
        }
    }

    private func rules(of binding: JSON, namespace: String) -> [JSON] {
        let reference = binding["roleRef"]
        let isCluster = reference?["kind"]?.string == "ClusterRole"
        let id = Store.ID(namespace: isCluster ? "" : namespace, name: reference?["name"]?.string ?? "")
        let key = "\(isCluster ? "clusterroles" : "roles").rbac.authorization.k8s.io"
        return store.objects[key]?[id]?["rules"]?.list ?? []
    }

    private static func allows(_ rule: JSON, _ action: Action) -> Bool {
        func has(_ field: String, _ word: String) -> Bool {
            (rule[field]?.list ?? []).contains { $0.string == word || $0.string == "*" }
        }
        guard has("verbs", action.verb), has("apiGroups", action.group) else { return false }
        let parts = action.resource.split(separator: "/")
        guard has("resources", action.resource) || parts.count == 2 && has("resources", "*/\(parts[1])") else {
            return false
        }
        let names = rule["resourceNames"]?.list?.compactMap(\.string) ?? []
        return names.isEmpty || names.contains(action.name)
    }

    /// - Throws: 403 in a server's words.
    func check(_ user: APIUser, _ action: Action) throws(APIFailure) {
        if allows(user, action) { return }
        let place = action.namespace.isEmpty ? "at the cluster scope" : "in the namespace \"\(action.namespace)\""
        let resource = action.group.isEmpty ? action.resource : "\(action.resource).\(action.group)"
        let name = action.name.isEmpty ? "" : " \"\(action.name)\""
        throw APIFailure(
            403, "Forbidden",
            "\(resource)\(name) is forbidden: User \"\(user.name)\" cannot \(action.verb) resource "
                + "\"\(action.resource)\" in API group \"\(action.group)\" \(place)")
    }
}
