import IstioAPI
import Mesh

/// All that is published, as of one moment, and how its types depend on each other: a workload lists policies by name, and
/// a proxy refuses connections to a workload that lists one it does not know.
struct DiscoveryTables: Sendable {
    private(set) var policies = ResourceTable(typeURL: TypeURL.authorization)
    /// And services.
    private(set) var workloads = ResourceTable(typeURL: TypeURL.address)
    /// Who has the workloads of this generation has none that lists a policy which is gone.
    private(set) var workloadsAtRemoval: UInt64 = 0

    /// Who has the policies of this generation has every one that a workload may list.
    var policiesAtAddition: UInt64 { policies.lastAddition }

    /// What would have to change.
    struct Differences {
        fileprivate let policies: ResourceTable.Difference
        fileprivate let workloads: ResourceTable.Difference
        var isEmpty: Bool { policies.isEmpty && workloads.isEmpty }
    }

    func differences(_ difference: (ResourceTable) throws -> ResourceTable.Difference) rethrows -> Differences {
        Differences(policies: try difference(policies), workloads: try difference(workloads))
    }

    mutating func apply(_ differences: Differences) {
        let before = policies.lastRemoval
        policies.apply(differences.policies)
        workloads.apply(differences.workloads)
        if policies.lastRemoval != before { workloadsAtRemoval = workloads.generation }
    }

    /// By type.
    var generations: [String: UInt64] {
        [policies.typeURL: policies.generation, workloads.typeURL: workloads.generation]
    }

    var resources: [MeshResource] {
        [policies, workloads].flatMap { $0.entries.sorted { $0.key < $1.key }.map(\.value.resource) }
    }
}
