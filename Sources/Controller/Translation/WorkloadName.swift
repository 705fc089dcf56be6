import ObjectSource

/// The name of what a pod is an instance of.
enum WorkloadName {
    static let override = "service.istio.io/workload-name"

    /// The label, or the name of what made the pod as far as that can be told, or the pod's own.
    static func of(_ pod: Pod) -> String {
        if let name = pod.metadata.labels[override], !name.isEmpty { return name }
        guard !pod.metadata.generateName.isEmpty, let owner = pod.metadata.owners.first(where: \.isController) else {
            return pod.metadata.name
        }
        switch owner.kind {
        case "ReplicaSet":
            // A deployment's replica set is called after it and the hash of its template.
            for label in ["pod-template-hash", "rollouts-pod-template-hash"] {
                guard let hash = pod.metadata.labels[label], !hash.isEmpty, owner.name.hasSuffix("-\(hash)") else {
                    continue
                }
                return String(owner.name.dropLast(hash.count + 1))
            }
            return owner.name
        case "ReplicationController":
            return pod.metadata.labels["deploymentconfig"] ?? owner.name
        case "Job":
            // A cron job's job is called after it and the minute it began at.
            guard let hyphen = owner.name.lastIndex(of: "-"), hyphen != owner.name.startIndex else { return owner.name }
            let digits = owner.name[owner.name.index(after: hyphen)...].utf8
            let isTime = (8...10).contains(digits.count) && digits.allSatisfy { (48...57).contains($0) }
            return isTime ? String(owner.name[..<hyphen]) : owner.name
        default:
            return owner.name
        }
    }
}
