import Addressing
import Foundation
import Identity
import Logging
import Mesh
import Synchronization
import Testing

@testable import Ztunnel

@Suite("Certificates of local pods")
struct LocalIdentitiesTests {
    /// Notes what it is asked for.
    private final class Source: WorkloadCertificateSource {
        let wanted = Mutex<Set<String>>([])

        func cached(_ identity: SPIFFEIdentity) -> WorkloadCertificate? { nil }
        func certificate(
            for identity: SPIFFEIdentity, priority: CertificatePriority
        ) async throws -> WorkloadCertificate {
            throw IdentityError(.timedOut, "there is none")
        }
        func prefetch(_ identity: SPIFFEIdentity) { _ = wanted.withLock { $0.insert(identity.serviceAccount) } }
        func forget(_ identity: SPIFFEIdentity) { _ = wanted.withLock { $0.remove(identity.serviceAccount) } }
        func onRenewal(_ handler: @escaping @Sendable (WorkloadCertificate) -> Void) {}
    }

    private func workload(
        _ name: String, _ account: String, node: String = "n1", hbone: Bool = true, native: Bool = false
    ) -> MeshUpdate {
        .workload(
            Workload(
                uid: name, name: name, namespace: "shop", addresses: [], tunnelProtocol: hbone ? .hbone : .none,
                serviceAccount: account, node: node, kind: .pod, nativeTunnel: native))
    }

    @Test("test_prefetch_forget_certs: fetched with the first pod of an identity here, forgotten with the last")
    func testPrefetchForgetCerts() throws {
        let source = Source()
        let contexts = CertificateContexts(source, logger: Logger(label: "test"))
        let local = LocalIdentities(node: "n1", contexts: contexts)
        let store = MeshStore()
        let observation = store.onChange { local.update($0) }
        defer { withExtendedLifetime((observation, contexts)) {} }
        func wanted() -> Set<String> { source.wanted.withLock { $0 } }

        store.apply([
            workload("a1", "a"), workload("a2", "a"), workload("b1", "b", native: true),
            workload("c1", "c", node: "n2"),
            workload("d1", "d", hbone: false), workload("e1", "e", hbone: false, native: true),
        ])
        #expect(wanted() == ["a", "b", "e"])
        store.apply([.remove("a1")])
        #expect(wanted() == ["a", "b", "e"])
        store.apply([.remove("a2"), workload("b1", "b", node: "n2")])
        #expect(wanted() == ["e"])
        store.apply([workload("a3", "a"), workload("d1", "d")])
        #expect(wanted() == ["a", "d", "e"])
    }
}
