import Kubernetes

/// What every object has to fulfil, and the rules of the kinds that the tests write. Schemas are looked at apart.
enum ObjectRules {
    private typealias Causes = [(field: String, message: String)]

    static func check(_ object: JSON, _ kind: ResourceKind) throws(APIFailure) {
        var causes: Causes = []
        checkMetadata(object, kind, &causes)
        switch kind.key {
        case "pods": checkPod(object["spec"], "spec", &causes)
        case "services":
            if object.at("spec", "type") != "ExternalName", object.at("spec", "clusterIP") != "None",
                (object.at("spec", "ports")?.list ?? []).isEmpty
            {
                causes.append(("spec.ports", "Required value"))
            }
        case "deployments.apps", "daemonsets.apps", "statefulsets.apps", "replicasets.apps":
            checkPod(object.at("spec", "template", "spec"), "spec.template.spec", &causes)
            checkSelector(object, &causes)
        case "customresourcedefinitions.apiextensions.k8s.io": checkDefinition(object, &causes)
        case "clusterrolebindings.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io":
            for name in ["kind", "name"] where (object.at("roleRef", name)?.string ?? "").isEmpty {
                causes.append(("roleRef.\(name)", "Required value"))
            }
        default: break
        }
        if !causes.isEmpty { throw .invalid(kind, object.name, causes) }
    }

    /// What may not change any more.
    static func checkChange(from old: JSON, to new: JSON, _ kind: ResourceKind) throws(APIFailure) {
        var causes: Causes = []
        func fixed(_ path: String...) {
            if old.at(path) != new.at(path) {
                causes.append((path.joined(separator: "."), "Invalid value: field is immutable"))
            }
        }
        switch kind.key {
        case "pods":
            fixed("spec", "serviceAccountName")
            fixed("spec", "hostNetwork")
            if let node = old.at("spec", "nodeName"), node != "" {
                if new.at("spec", "nodeName") != node { fixed("spec", "nodeName") }
            }
        case "deployments.apps", "daemonsets.apps", "statefulsets.apps", "replicasets.apps": fixed("spec", "selector")
        case "secrets": fixed("type")
        case "clusterrolebindings.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io": fixed("roleRef")
        case "services":
            if let address = old.at("spec", "clusterIP"), new.at("spec", "type") != "ExternalName",
                address != "", new.at("spec", "clusterIP") != address
            {
                fixed("spec", "clusterIP")
            }
        default: break
        }
        if ["secrets", "configmaps"].contains(kind.key), old["immutable"] == true, new["data"] != old["data"] {
            causes.append(("data", "Forbidden: field is immutable when `immutable` is set"))
        }
        if !causes.isEmpty { throw .invalid(kind, new.name, causes) }
    }

    // MARK: Metadata

    private static func checkMetadata(_ object: JSON, _ kind: ResourceKind, _ causes: inout Causes) {
        let name = object.name
        // Names that others choose may hold colons there.
        let isFree = kind.group == "rbac.authorization.k8s.io"
        let isGood =
            isFree
            ? !name.isEmpty && !name.contains("/") && !name.contains("%") && name != "." && name != ".."
            : kind.key == "namespaces" || kind.key == "services" ? isLabel(name) : isSubdomain(name)
        if !isGood {
            causes.append(
                (
                    "metadata.name",
                    "Invalid value: \"\(name)\": a lowercase RFC 1123 \(kind.key == "namespaces" ? "label" : "subdomain") "
                        + "must consist of lower case alphanumeric characters, '-' or '.', and must start and end with "
                        + "an alphanumeric character"
                ))
        }
        for (field, isLabels) in [("labels", true), ("annotations", false)] {
            guard let map = object.at("metadata", field) else { continue }
            guard let members = map.members else {
                causes.append(("metadata.\(field)", "Invalid value: expected a map, not \(map.typeName)"))
                continue
            }
            var size = 0
            for (key, value) in members.sorted(by: { $0.key < $1.key }) {
                if !isQualified(key) {
                    causes.append(
                        (
                            "metadata.\(field)",
                            "Invalid value: \"\(key)\": name part must consist of alphanumeric characters, '-', '_' or '.'"
                        ))
                }
                guard let text = value.string else {
                    causes.append(
                        ("metadata.\(field).\(key)", "Invalid value: expected a string, not \(value.typeName)"))
                    continue
                }
                size += key.utf8.count + text.utf8.count
                if isLabels, !isLabelValue(text) {
                    causes.append(
                        (
                            "metadata.labels",
                            "Invalid value: \"\(text)\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', 63 at most"
                        ))
                }
            }
            if !isLabels, size > 256 << 10 {
                causes.append(("metadata.annotations", "Too long: may not be more than 262144 bytes"))
            }
        }
    }

    private static func isAlphanumeric(_ character: Character) -> Bool {
        character.isASCII && (character.isLetter || character.isNumber)
    }

    private static func isWord(_ text: some StringProtocol, _ inner: String, lower: Bool) -> Bool {
        guard let first = text.first, let last = text.last, isAlphanumeric(first), isAlphanumeric(last) else {
            return false
        }
        return text.allSatisfy { (isAlphanumeric($0) && !(lower && $0.isUppercase)) || inner.contains($0) }
    }

    static func isLabel(_ text: some StringProtocol) -> Bool {
        text.utf8.count <= 63 && isWord(text, "-", lower: true)
    }

    static func isSubdomain(_ text: some StringProtocol) -> Bool {
        text.utf8.count <= 253
            && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy {
                isWord($0, "-", lower: true)
            }
    }

    static func isQualified(_ text: String) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let name = parts.last, parts.count <= 2, parts.count == 1 || isSubdomain(parts[0]) else { return false }
        return name.utf8.count <= 63 && isWord(name, "-_.", lower: false)
    }

    static func isLabelValue(_ text: String) -> Bool {
        text.isEmpty || text.utf8.count <= 63 && isWord(text, "-_.", lower: false)
    }

    // MARK: Kinds

    private static func checkPod(_ spec: JSON?, _ path: String, _ causes: inout Causes) {
        guard let spec else {
            causes.append((path, "Required value"))
            return
        }
        let containers = spec["containers"]?.list ?? []
        if containers.isEmpty { causes.append(("\(path).containers", "Required value")) }
        let volumes = Set((spec["volumes"]?.list ?? []).compactMap { $0["name"]?.string })
        var names: Set<String> = []
        let all = [("containers", containers), ("initContainers", spec["initContainers"]?.list ?? [])]
        for (field, list) in all {
            for (index, container) in list.enumerated() {
                let place = "\(path).\(field)[\(index)]"
                let name = container["name"]?.string ?? ""
                if !isLabel(name) { causes.append(("\(place).name", "Required value: a label of DNS")) }
                if !names.insert(name).inserted { causes.append(("\(place).name", "Duplicate value: \"\(name)\"")) }
                if (container["image"]?.string ?? "").isEmpty { causes.append(("\(place).image", "Required value")) }
                for (number, mount) in (container["volumeMounts"]?.list ?? []).enumerated() {
                    let volume = mount["name"]?.string ?? ""
                    if !volumes.contains(volume) {
                        causes.append(("\(place).volumeMounts[\(number)].name", "Not found: \"\(volume)\""))
                    }
                }
            }
        }
    }

    private static func checkSelector(_ object: JSON, _ causes: inout Causes) {
        let selector = object.at("spec", "selector")
        guard let wanted = selector?["matchLabels"]?.members, !wanted.isEmpty else {
            if (selector?["matchExpressions"]?.list ?? []).isEmpty {
                causes.append(("spec.selector", "Required value"))
            }
            return
        }
        let labels = object.at("spec", "template", "metadata", "labels")
        if wanted.contains(where: { labels?[$0.key] != $0.value }) {
            causes.append(
                ("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`"))
        }
    }

    private static func checkDefinition(_ object: JSON, _ causes: inout Causes) {
        let spec = object["spec"]
        let (plural, group) = (spec?.at("names", "plural")?.string ?? "", spec?["group"]?.string ?? "")
        if object.name != "\(plural).\(group)" {
            causes.append(
                ("metadata.name", "Invalid value: \"\(object.name)\": must be spec.names.plural+\".\"+spec.group"))
        }
        if (spec?.at("names", "kind")?.string ?? "").isEmpty { causes.append(("spec.names.kind", "Required value")) }
        if spec?["scope"] != "Namespaced", spec?["scope"] != "Cluster" {
            causes.append(("spec.scope", "Unsupported value: supported values: \"Cluster\", \"Namespaced\""))
        }
        let stored = (spec?["versions"]?.list ?? []).filter { $0["storage"] == true }
        if stored.count != 1 {
            causes.append(("spec.versions", "Invalid value: must have exactly one version marked as storage version"))
        }
        for (index, version) in (spec?["versions"]?.list ?? []).enumerated()
        where version.at("schema", "openAPIV3Schema") == nil {
            causes.append(("spec.versions[\(index)].schema.openAPIV3Schema", "Required value: schemas are required"))
        }
    }
}
