import Kubernetes
import Logging
import ObjectSource
import Synchronization

/// Writes the addresses that are chosen for hosts into the status of service entries, for as long as this program leads.
final class AddressWriter: Sendable {
    static let manager = "istio-ip-autoallocate"

    private struct State {
        var entries: [ObjectName: ServiceEntry] = [:]
        var changes: [ObjectName: [AddressAllocation.Address]] = [:]
        /// Written, and not yet heard of again.
        var written: [ObjectName: [AddressAllocation.Address]] = [:]
        var isExhausted = false
    }

    private let client: KubernetesClient
    private let log: Logger
    private let writer: PacedWriter<ObjectName>
    private let state = Mutex(State())

    init(_ client: KubernetesClient, log: Logger) {
        self.client = client
        self.log = log
        writer = PacedWriter("an entry's address", log: log)
    }

    func update(_ objects: ObjectSnapshot) {
        let isNews = state.withLock { state -> Bool in
            guard state.entries != objects.serviceEntries else { return false }
            state.entries = objects.serviceEntries
            state.written = state.written.filter { name, list in
                objects.serviceEntries[name].map { $0.allocated != list } ?? false
            }
            return choose(&state)
        }
        if isNews { log.error("no addresses are left for hosts of service entries") }
        writer.notify()
    }

    /// What has been written counts, though the server may not have told it yet.
    /// - Returns: Whether there is too little for all, for the first time.
    private func choose(_ state: inout State) -> Bool {
        var entries = state.entries
        for (name, list) in state.written { entries[name]?.allocated = list }
        let outcome = AddressAllocation.outcome(entries)
        state.changes = outcome.changes
        defer { state.isExhausted = outcome.exhausted > 0 }
        return outcome.exhausted > 0 && !state.isExhausted
    }

    /// Writes until the task is cancelled.
    func run() async {
        await writer.run(due: { self.state.withLock { Array($0.changes.keys) } }) { name throws(KubernetesError) in
            try await self.write(name)
        }
    }

    private func write(_ name: ObjectName) async throws(KubernetesError) {
        guard let list = state.withLock({ $0.changes[name] }) else { return }
        let addresses = list.map { JSON.object(["value": .string($0.value), "host": .string($0.host)]) }
        do throws(KubernetesError) {
            try await patch(name, .list(addresses), version: 0)
        } catch {
            guard error.code == .notFound else { throw error }
            // It is gone.
            return state.withLock { $0.changes[name] = nil }
        }
        state.withLock { state in
            state.written[name] = list
            _ = choose(&state)
        }
    }

    /// In the first of the kind's versions that the server has.
    private func patch(_ name: ObjectName, _ addresses: JSON, version: Int) async throws(KubernetesError) {
        let versions = ObjectKind.serviceEntry.apiVersions
        let resource = APIResource(.serviceEntry, apiVersion: versions[version])
        do throws(KubernetesError) {
            try await client.patch(
                resource, name.name,
                .apply(
                    [
                        "apiVersion": .string(resource.apiVersion), "kind": .string(resource.kind),
                        "metadata": ["name": .string(name.name), "namespace": .string(name.namespace)],
                        "status": ["addresses": addresses],
                    ], force: true), namespace: name.namespace, subresource: "status", manager: Self.manager)
        } catch {
            guard error.code == .notFound, version + 1 < versions.count else { throw error }
            try await patch(name, addresses, version: version + 1)
        }
    }
}
