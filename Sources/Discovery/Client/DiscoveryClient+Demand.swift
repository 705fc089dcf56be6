import IstioAPI
import Mesh

extension DiscoveryClient: MeshDemand {
    /// How many may wait for one name; more are not called and meet their own limits.
    static let waiterLimit = 1024

    public func ask(for name: MeshName, done: @escaping @Sendable () -> Void) {
        let mesh = store.snapshot()
        let isAnswered = state.withLock { state in
            switch state.exchange.demand(name, isKnown: { mesh.knows($0) }) {
            case .answered: return true
            case .refused: return false
            case .pending: break
            case .request(let request): state.requests?.yield(request)
            }
            if state.waiters[name, default: []].count < Self.waiterLimit {
                state.waiters[name, default: []].append(done)
            }
            return false
        }
        if isAnswered { done() }
    }

    /// Calls those whose name has been answered; what was said is in the store.
    func settle(_ response: ReceivedResponse) {
        guard settings.isOnDemand, response.kind == .address else { return }
        let mesh = store.snapshot()
        let waiters = state.withLock { state in
            state.exchange.settle(removed: Set(response.removed)) { mesh.knows($0) }
                .flatMap { state.waiters.removeValue(forKey: $0) ?? [] }
        }
        for done in waiters { done() }
    }
}
