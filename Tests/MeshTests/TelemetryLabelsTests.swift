import Addressing
import Testing

@testable import Mesh

@Suite("Telemetry labels")
struct TelemetryLabelsTests {
    let client = Workload(
        uid: "c", name: "client-1", namespace: "web", serviceAccount: "front", canonicalName: "client",
        canonicalRevision: "v1", workloadName: "client-deployment", locality: Locality(region: "r", zone: "z"))
    let server = Workload(uid: "s", name: "server-1", namespace: "db", serviceAccount: "back", workloadName: "server")

    func value(_ labels: TelemetryLabels, _ name: String) -> String? {
        TelemetryLabels.names.firstIndex(of: name).map { labels.values[$0] }
    }

    @Test("the names, in their order")
    func names() {
        let line = TelemetryLabels.names.joined(separator: " ")
        #expect(
            line
                == "reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace "
                + "source_principal source_app source_version source_cluster destination_service "
                + "destination_service_namespace destination_service_name destination_workload "
                + "destination_canonical_service destination_canonical_revision destination_workload_namespace "
                + "destination_principal destination_app destination_version destination_cluster request_protocol "
                + "response_flags connection_security_policy source_region source_zone destination_region destination_zone"
        )
    }

    @Test("one value a name; what is not known is unknown")
    func values() {
        let labels = TelemetryLabels(
            reporter: .source, source: .init(client, principal: client.identity),
            destination: .init(server, principal: server.identity), service: service("s", ["10.1.0.1"]),
            security: .mutualTLS)
        #expect(
            labels.values == [
                "source", "client-deployment", "client", "v1", "web", "spiffe://cluster.local/ns/web/sa/front",
                "client",
                "v1", "Kubernetes", "s.ns", "ns", "s", "server", "unknown", "unknown", "db",
                "spiffe://cluster.local/ns/db/sa/back", "unknown", "unknown", "Kubernetes", "tcp", "-", "mutual_tls",
                "r",
                "z", "unknown", "unknown",
            ])
    }

    @Test("nobody known: no localities at all")
    func unknown() {
        let labels = TelemetryLabels(
            reporter: .destination, source: .init(), destination: .init(), service: nil, security: .unknown)
        #expect(value(labels, "source_region")?.isEmpty == true)
        #expect(value(labels, "source_principal") == "unknown")
        #expect(value(labels, "connection_security_policy") == "unknown")
    }

    @Test("12. a record goes before what the peer says of itself; the identity is the certificate's alone")
    func baggage() {
        var said = Baggage()
        said.workloadName = "said"
        said.canonicalRevision = "v9"
        said.region = "said-region"
        let identity = SPIFFEIdentity(trustDomain: "td", namespace: "n", serviceAccount: "s")
        let known = TelemetryLabels.Peer(said, workload: server, principal: identity)
        #expect(known.workloadName == "server" && known.canonicalRevision == "v9" && known.region == "said-region")
        #expect(known.principal == identity && known.isKnown)
        let stranger = TelemetryLabels.Peer(said, workload: nil, principal: nil)
        #expect(stranger.workloadName == "said" && stranger.principal == nil && stranger.isKnown)
        #expect(!TelemetryLabels.Peer(Baggage(), workload: nil, principal: identity).isKnown)
    }

    @Test("how it ended changes one label", arguments: TelemetryLabels.ResponseFlag.allCases)
    func flags(_ flag: TelemetryLabels.ResponseFlag) {
        let open = TelemetryLabels(
            reporter: .source, source: .init(client, principal: nil), destination: .init(), service: nil,
            security: .unknown)
        let closed = open.with(flag)
        #expect(value(closed, "response_flags") == flag.rawValue)
        #expect(zip(open.values, closed.values).count { $0 != $1 } == (flag == .none ? 0 : 1))
        #expect((closed == open) == (flag == .none))
    }

    @Test("the labels of the source alone")
    func source() {
        let labels = TelemetryLabels(
            reporter: .source, source: .init(client, principal: nil), destination: .init(), service: nil,
            security: .unknown)
        #expect(labels.sourceValues.count == TelemetryLabels.sourceNames.count)
        #expect(labels.sourceValues.first == "client-deployment" && labels.sourceValues.last == "Kubernetes")
    }
}
