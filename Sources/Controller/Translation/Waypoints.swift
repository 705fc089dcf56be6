import Addressing
import Mesh
import ObjectSource

/// A gateway that stands in front of services or workloads.
struct Waypoint: Hashable {
    let name: ObjectName
    let address: GatewayAddress
    let servesServices: Bool
    let servesWorkloads: Bool
    /// Whose objects may use it.
    let allowedNamespaces: Gateway.AllowedNamespaces
    /// How traffic is handed to a waypoint that has a proxy in front.
    let inboundBinding: Workload.ApplicationTunnel?
}

/// The waypoints there are, by name. One counts as soon as it has an address, whoever runs it.
struct WaypointTable {
    static let trafficLabel = "istio.io/waypoint-for"
    static let bindingAnnotation = "ambient.istio.io/waypoint-inbound-binding"
    /// On a waypoint's pods: the gateway they are instances of.
    static let gatewayNameLabel = "gateway.networking.k8s.io/gateway-name"
    static let hbone = "HBONE"

    private(set) var all: [ObjectName: Waypoint] = [:]
    private let namespaces: [String: Namespace]
    private let gateways: Set<ObjectName>

    init(_ objects: ObjectSnapshot, network: String) {
        namespaces = objects.namespaces
        gateways = Set(objects.gateways.keys)
        for (name, gateway) in objects.gateways {
            let gatewayClass = objects.gatewayClasses[gateway.className]
            all[name] = Self.waypoint(gateway, gatewayClass, network: network)
        }
    }

    private static func waypoint(_ gateway: Gateway, _ gatewayClass: GatewayClass?, network: String) -> Waypoint? {
        let binding = binding(gateway, gatewayClass)
        let own = gateway.listeners.first { $0.protocolName == hbone }
        let bound = binding.flatMap { binding in gateway.listeners.first { $0.port == binding.port } }
        guard let listener = bound ?? own, !gateway.metadata.isBeingDeleted,
            let address = address(gateway.statusAddresses, gateway.metadata.namespace, network: network)
        else { return nil }
        let traffic =
            gateway.metadata.labels[trafficLabel] ?? gatewayClass?.metadata.labels[trafficLabel] ?? "service"
        return Waypoint(
            name: gateway.metadata.objectName, address: address,
            servesServices: traffic == "service" || traffic == "all",
            servesWorkloads: traffic == "workload" || traffic == "all",
            allowedNamespaces: listener.allowedNamespaces, inboundBinding: binding)
    }

    /// A host name is preferred: it outlives a change of the address.
    private static func address(_ list: [Gateway.Address], _ namespace: String, network: String) -> GatewayAddress? {
        if let name = list.first(where: { $0.kind == .hostname }) {
            return GatewayAddress(.hostname(NamespacedHostname(namespace: namespace, hostname: name.value)))
        }
        return list.lazy.filter { $0.kind == .ip }.compactMap { IPAddress($0.value) }.first.map {
            GatewayAddress(.address(NetworkAddress(network: network, address: $0)))
        }
    }

    /// `PROTOCOL/port` on the gateway or its class.
    private static func binding(_ gateway: Gateway, _ gatewayClass: GatewayClass?) -> Workload.ApplicationTunnel? {
        guard
            let text = gateway.metadata.annotations[bindingAnnotation]
                ?? gatewayClass?.metadata.annotations[bindingAnnotation]
        else { return nil }
        let parts = text.split(separator: "/", maxSplits: 1)
        guard let first = parts.first else { return nil }
        let port = parts.count == 2 ? UInt16(parts[1]) : nil
        switch first.uppercased() {
        case "PROXY": return Workload.ApplicationTunnel(framing: .proxy, port: port)
        case "NONE": return Workload.ApplicationTunnel(framing: .none, port: port)
        default: return nil
        }
    }

    /// The waypoint that a pod is an instance of.
    func waypoint(ofInstance pod: ObjectMeta) -> Waypoint? {
        pod.labels[Self.gatewayNameLabel].flatMap { all[ObjectName(namespace: pod.namespace, name: $0)] }
    }

    func namespace(_ name: String) -> ObjectMeta? { namespaces[name]?.metadata }

    /// There is a gateway of that name, ready or not.
    func isKnown(_ name: ObjectName) -> Bool { gateways.contains(name) }

    func admits(_ namespace: String, to waypoint: Waypoint) -> Bool {
        switch waypoint.allowedNamespaces {
        case .none: false
        case .same: waypoint.name.namespace == namespace
        case .all: true
        case .selected(let selector): namespaces[namespace].map { selector.matches($0.metadata.labels) } ?? false
        }
    }
}
