import Kubernetes
import ObjectSource
import Testing

@Suite("Resources of the API")
struct APIResourceTests {
    @Test("the plural of each kind is the API's")
    func plurals() {
        let expected: [ObjectKind: String] = [
            .namespace: "namespaces", .pod: "pods", .service: "services", .serviceAccount: "serviceaccounts",
            .endpointSlice: "endpointslices.discovery.k8s.io",
            .authorizationPolicy: "authorizationpolicies.security.istio.io",
            .peerAuthentication: "peerauthentications.security.istio.io", .node: "nodes",
            .gateway: "gateways.gateway.networking.k8s.io",
            .gatewayClass: "gatewayclasses.gateway.networking.k8s.io",
            .serviceEntry: "serviceentries.networking.istio.io",
            .workloadEntry: "workloadentries.networking.istio.io",
        ]
        for kind in ObjectKind.allCases { #expect(APIResource(kind).description == expected[kind]) }
    }
}
