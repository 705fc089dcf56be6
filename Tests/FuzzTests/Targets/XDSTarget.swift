import Mesh

/// Responses of a control plane, into the state of a mesh and out of it again.
enum XDSTarget {
    static func run(_ bytes: UnsafeRawBufferPointer) {
        // A refusal of the whole is an outcome like any other.
        guard let delta = try? ResourceDecoder().response(Array(bytes)) else { return }
        let updates = delta.resources.compactMap { try? $0.update.get() }
        var state = MeshState()
        state.apply(updates)
        for update in updates {
            switch update {
            case .workload(let workload): state.apply(.remove(workload.uid))
            case .service(let service): state.apply(.remove(service.key.description))
            case .policy(let key, _): state.apply(.removePolicy(key))
            case .remove, .removePolicy: preconditionFailure("a resource became a removal")
            }
        }
        precondition(state.workloadCount == 0 && state.policyCount == 0, "a resource cannot be removed by its name")
    }
}
