import Addressing
import Foundation
import IstioAPI
import Mesh
import SwiftProtobuf
import Testing

@testable import Discovery

@Suite("Mesh values on the wire")
struct ConversionTests {
    @Test("nothing is lost on the way there and back")
    func roundTrips() throws {
        #expect(try Decoded.workload(Istio_Workload_Workload(Samples.fullWorkload)) == Samples.fullWorkload)
        #expect(try Decoded.service(Istio_Workload_Service(Samples.fullService)) == Samples.fullService)
        #expect(try Decoded.policy(Istio_Security_Authorization(Samples.fullPolicy)) == Samples.fullPolicy)
        let plain = Workload(uid: "u", name: "", namespace: "")
        #expect(try Decoded.workload(Istio_Workload_Workload(plain)) == plain)
        let service = Service(name: "", namespace: "", hostname: "h")
        #expect(try Decoded.service(Istio_Workload_Service(service)) == service)
        for mode in [LoadBalancing.Mode.standard, .strict, .passthrough] {
            let balanced = Service(
                name: "", namespace: "", hostname: "h", loadBalancing: LoadBalancing(mode: mode))
            #expect(try Decoded.service(Istio_Workload_Service(balanced)) == balanced)
        }
        for families in [Service.IPFamilies.v4Only, .v6Only] {
            let single = Service(name: "", namespace: "", hostname: "h", ipFamilies: families)
            #expect(try Decoded.service(Istio_Workload_Service(single)) == single)
        }
    }

    @Test("field numbers are the published ones")
    func fieldNumbers() throws {
        // By hand: uid 20, name 1, addresses 3, tunnel_protocol 5, services 22, network_mode 25, capacity 27.
        let entry: [UInt8] = [0x0a, 0x03, 0x73, 0x2f, 0x68, 0x12, 0x07, 0x0a, 0x05, 0x08, 0x50, 0x10, 0x90, 0x3f]
        let bytes: [UInt8] =
            [0xa2, 0x01, 0x01, 0x75] + [0x0a, 0x01, 0x6e] + [0x1a, 0x04, 10, 0, 0, 1] + [0x28, 0x01]
            + [0xb2, 0x01, UInt8(entry.count)] + entry + [0xc8, 0x01, 0x01] + [0xda, 0x01, 0x02, 0x08, 0x05]
        let address = try Istio_Workload_Address(serializedBytes: [0x0a, UInt8(bytes.count)] + bytes)
        let workload = try Decoded.workload(address.workload)
        #expect(workload.uid == "u")
        #expect(workload.name == "n")
        #expect(workload.addresses == [IPAddress(10, 0, 0, 1)])
        #expect(workload.tunnelProtocol == .hbone)
        #expect(workload.services == [NamespacedHostname(namespace: "s", hostname: "h"): [80: 8080]])
        #expect(workload.networkMode == .hostNetwork)
        #expect(workload.capacity == 5)
        #expect(workload.trustDomain == "cluster.local")
        #expect(workload.serviceAccount == "default")
        #expect(workload.clusterID == "Kubernetes")
    }

    @Test("equal resources have equal bytes and so one version")
    func determinism() throws {
        let first = try MeshResource.workload(Samples.fullWorkload).encoded()
        for _ in 0..<20 {
            let again = try Decoded.workload(Istio_Workload_Address(serializedBytes: first).workload)
            #expect(try MeshResource.workload(again).encoded() == first)
        }
        #expect(ContentHash.of(Data()) == "cbf29ce484222325")
        #expect(ContentHash.of(Data([0x61])) == "af63dc4c8601ec8c")
    }

    private static let wrongWorkloads: [(String, @Sendable (inout Istio_Workload_Workload) -> Void)] = [
        ("uid", { $0.uid = "" }),
        ("addresses", { $0.addresses = [Data([1, 2, 3])] }),
        ("tunnel_protocol", { $0.tunnelProtocol = .legacyIstioMtls }),
        ("tunnel_protocol", { $0.tunnelProtocol = .UNRECOGNIZED(9) }),
        ("workload_type", { $0.workloadType = .UNRECOGNIZED(9) }),
        ("status", { $0.status = .UNRECOGNIZED(9) }),
        ("network_mode", { $0.networkMode = .UNRECOGNIZED(9) }),
        ("services", { $0.services["noslash"] = Istio_Workload_PortList() }),
        (
            "services",
            { workload in
                var port = Istio_Workload_Port()
                port.servicePort = 65536
                workload.services["a/b"] = .with { $0.ports = [port] }
            }
        ),
        ("waypoint", { $0.waypoint = Istio_Workload_GatewayAddress() }),
        ("network_gateway", { $0.networkGateway.hboneMtlsPort = 1 }),
        ("waypoint.address", { $0.waypoint.address.address = Data([1]) }),
        ("application_tunnel.protocol", { $0.applicationTunnel.protocol = .UNRECOGNIZED(4) }),
    ]

    @Test("workloads that must not be guessed at are refused", arguments: 0..<wrongWorkloads.count)
    func wrongWorkload(index: Int) {
        let (field, change) = Self.wrongWorkloads[index]
        var wire = Istio_Workload_Workload(Workload(uid: "u", name: "", namespace: ""))
        change(&wire)
        let error = #expect(throws: ConversionError.self) { try Decoded.workload(wire) }
        #expect(error?.field == field)
    }

    private static let wrongServices: [(String, @Sendable (inout Istio_Workload_Service) -> Void)] = [
        ("hostname", { $0.hostname = "" }),
        ("addresses", { $0.addresses = [Istio_Workload_NetworkAddress()] }),
        (
            "addresses",
            { service in
                var block = Istio_Workload_NetworkAddress(NetworkAddress(address: .loopbackV4))
                block.length = 33
                service.addresses = [block]
            }
        ),
        ("ip_families", { $0.ipFamilies = .UNRECOGNIZED(9) }),
        ("routing_preference", { $0.loadBalancing.routingPreference = [.UNRECOGNIZED(9)] }),
        ("routing_preference", { $0.loadBalancing.routingPreference = [.unspecifiedScope] }),
        ("load_balancing.mode", { $0.loadBalancing.mode = .UNRECOGNIZED(9) }),
        ("load_balancing.health_policy", { $0.loadBalancing.healthPolicy = .UNRECOGNIZED(9) }),
        ("weighted_waypoints", { $0.weightedWaypoints = [Istio_Workload_WeightedWaypoint()] }),
    ]

    @Test("so are services", arguments: 0..<wrongServices.count)
    func wrongService(index: Int) {
        let (field, change) = Self.wrongServices[index]
        var wire = Istio_Workload_Service(Service(name: "", namespace: "", hostname: "h"))
        change(&wire)
        let error = #expect(throws: ConversionError.self) { try Decoded.service(wire) }
        #expect(error?.field == field)
    }

    @Test("an unknown visibility is public, an unknown protocol unknown, a block of one address an address")
    func leniency() throws {
        var wire = Istio_Workload_Service(Service(name: "", namespace: "", hostname: "h"))
        wire.visibility = .UNRECOGNIZED(7)
        wire.ports = [.with { $0.appProtocol = .UNRECOGNIZED(99) }]
        var whole = Istio_Workload_NetworkAddress(NetworkAddress(address: .loopbackV4))
        whole.length = 32
        wire.addresses = [whole]
        let service = try Decoded.service(wire)
        #expect(service.visibility == .everywhere)
        #expect(service.ports == [.init(0, target: 0, appProtocol: .unknown)])
        #expect(service.addresses == [NetworkAddress(address: .loopbackV4)])
        #expect(service.blocks.isEmpty)
    }

    @Test("policies: unknown scope and action are refused, values that cannot be read stay as such")
    func policies() throws {
        var wire = Istio_Security_Authorization(Samples.fullPolicy)
        wire.scope = .UNRECOGNIZED(5)
        #expect(throws: ConversionError.self) { try Decoded.policy(wire) }
        wire.scope = .global
        wire.action = .UNRECOGNIZED(5)
        #expect(throws: ConversionError.self) { try Decoded.policy(wire) }
        wire.action = .allow
        wire.rules = [
            .with {
                $0.clauses = [
                    .with {
                        $0.matches = [
                            .with {
                                $0.principals = [Istio_Security_StringMatch()]
                                $0.sourceIps = [.with { $0.address = Data([1, 2]) }]
                            }
                        ]
                    }
                ]
            }
        ]
        let match = try #require(try Decoded.policy(wire).rules.first?.clauses.first?.matches.first)
        #expect(!match.isEmpty)
        #expect(match.principals == [.unparsable("")])
        if case .block? = match.sourceAddresses.first { Issue.record("two bytes became an address") }
    }

    @Test("resources of a wrong type or of none are refused by themselves")
    func wrongTypes() throws {
        let decoder = ResourceDecoder()
        let body = try Istio_Workload_Address().serializedBytes() as [UInt8]
        #expect(throws: ConversionError.self) { try decoder.update(name: "x", typeURL: TypeURL.address, body: body) }
        #expect(throws: ConversionError.self) { try decoder.update(name: "x", typeURL: "other", body: body) }
        #expect(throws: ConversionError.self) {
            try decoder.update(name: "x", typeURL: TypeURL.address, body: [0xff, 0xff, 0xff])
        }
        var response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()
        response.typeURL = TypeURL.address
        response.resources = [.with { $0.resource.typeURL = TypeURL.authorization }]
        let delta = try decoder.response(response.serializedBytes())
        #expect(delta.resourceCount == 1)
        #expect(throws: ConversionError.self) { try delta.resources[0].update.get() }
    }
}

/// Generated messages through the bytes and the decoder by hand.
enum Decoded {
    private static func update(_ message: some SwiftProtobuf.Message, _ typeURL: String) throws -> MeshUpdate {
        try ResourceDecoder().update(name: "n", typeURL: typeURL, body: message.serializedBytes())
    }

    static func workload(_ wire: Istio_Workload_Workload) throws -> Workload {
        guard
            case .workload(let workload) = try update(
                .with { $0.workload = wire } as Istio_Workload_Address, TypeURL.address)
        else { throw ConversionError("type", "is no workload") }
        return workload
    }

    static func service(_ wire: Istio_Workload_Service) throws -> Service {
        guard
            case .service(let service) = try update(
                .with { $0.service = wire } as Istio_Workload_Address, TypeURL.address)
        else { throw ConversionError("type", "is no service") }
        return service
    }

    static func policy(_ wire: Istio_Security_Authorization) throws -> AuthorizationPolicy {
        guard case .policy(_, let policy) = try update(wire, TypeURL.authorization) else {
            throw ConversionError("type", "is no policy")
        }
        return policy
    }
}
