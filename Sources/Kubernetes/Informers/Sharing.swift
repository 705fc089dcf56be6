import ObjectSource

/// Keeps once what many objects say alike: pods of one replica set differ in name, address and little else.
struct Sharing: Sendable {
    /// What is remembered, at most, of each; then it begins anew, and what is in use stays with its users.
    private static let limit = 16_384

    private var words: Set<String> = []
    private var maps: Set<[String: String]> = []
    private var owners: Set<[OwnerReference]> = []
    private var containers: Set<[Container]> = []

    mutating func share(_ object: KubernetesObject) -> KubernetesObject {
        guard case .pod(var pod) = object else { return object }
        pod.metadata.namespace = word(pod.metadata.namespace)
        pod.metadata.generateName = word(pod.metadata.generateName)
        pod.metadata.labels = Self.shared(pod.metadata.labels, in: &maps)
        pod.metadata.annotations = Self.shared(pod.metadata.annotations, in: &maps)
        pod.metadata.owners = Self.shared(pod.metadata.owners, in: &owners)
        pod.spec.serviceAccountName = word(pod.spec.serviceAccountName)
        pod.spec.nodeName = word(pod.spec.nodeName)
        pod.spec.containers = Self.shared(pod.spec.containers, in: &containers)
        pod.spec.initContainers = Self.shared(pod.spec.initContainers, in: &containers)
        return .pod(pod)
    }

    private mutating func word(_ text: String) -> String {
        // Shorter ones need no memory of their own.
        text.utf8.count > 15 ? Self.shared(text, in: &words) : text
    }

    private static func shared<Value>(_ value: Value, in known: inout Set<Value>) -> Value {
        if known.count >= limit { known = [] }
        return known.insert(value).memberAfterInsert
    }
}
