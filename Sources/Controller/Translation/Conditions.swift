import Mesh
import ObjectSource

/// What users are told about their objects, with Istio's types and reasons.
struct Conditions {
    static let waypointBound = "istio.io/WaypointBound"
    static let ztunnelAccepted = "ZtunnelAccepted"
    static let waypointAccepted = "WaypointAccepted"
    static let meshController = "istio.io/mesh-controller"

    private let surroundings: Surroundings

    init(_ surroundings: Surroundings) { self.surroundings = surroundings }

    /// All but the services', in no order.
    func others(_ warnings: [PolicyWarning]) -> [ObjectCondition] { attachments() + policies(warnings) + targets() }

    func service(_ service: ServiceObject) -> ObjectCondition? {
        guard service.spec.type != .externalName else { return nil }
        return condition(
            .service(service), .service, surroundings.waypoints.attachment(of: service.metadata, as: .service))
    }

    // MARK: Waypoints

    private func attachments() -> [ObjectCondition] {
        let objects = surroundings.objects
        let entries = objects.serviceEntries.values.compactMap { entry in
            condition(.serviceEntry(entry), .service, attachment(of: entry))
        }
        let workloads = objects.workloadEntries.values.compactMap { entry in
            condition(
                .workloadEntry(entry), .workloadEntry,
                surroundings.waypoints.attachment(of: entry.metadata, labels: entry.labels, as: .workload))
        }
        return entries + workloads
    }

    private func attachment(of entry: ServiceEntry) -> WaypointAttachment {
        surroundings.waypoints.attachment(
            of: entry.metadata, as: .service,
            ownNamespaceOnly: surroundings.hosts.visibility(of: entry) == .namespace)
    }

    /// `nil` where no waypoint was asked for.
    private func condition(
        _ object: KubernetesObject, _ reporter: ObjectCondition.Reporter, _ found: WaypointAttachment
    ) -> ObjectCondition? {
        guard let wish = found.wish else { return nil }
        if let refusal = found.refusal {
            return ObjectCondition(
                object.key, reporter, type: Self.waypointBound, isTrue: false, reason: refusal.rawValue,
                message: "\(refusal.text(wish)); traffic goes past its policies",
                generation: object.metadata.generation)
        }
        var message = "Successfully attached to waypoint \(wish)."
        if reporter == .service {
            message +=
                surroundings.waypoints.takesIngress(object.metadata)
                ? " Ingress traffic will traverse the waypoint." : " Ingress traffic does not traverse the waypoint."
        }
        if let problem = found.canaryProblem {
            message += " \(problem.rawValue): the second waypoint gets no traffic."
        }
        return ObjectCondition(
            object.key, reporter, type: Self.waypointBound, isTrue: true, reason: "WaypointAccepted", message: message,
            generation: object.metadata.generation)
    }

    // MARK: Policies of layer 4

    private func policies(_ warnings: [PolicyWarning]) -> [ObjectCondition] {
        let byPolicy = Dictionary(grouping: warnings, by: \.policy)
        return surroundings.objects.authorizationPolicies.values.filter(\.targets.isEmpty).map { policy in
            let key = KubernetesObject.authorizationPolicy(policy).key
            guard let found = byPolicy[policy.metadata.objectName.description] else {
                return ObjectCondition(
                    key, .ztunnelPolicy, type: Self.ztunnelAccepted, isTrue: true, reason: "Accepted",
                    message: "attached to ztunnel", generation: policy.metadata.generation)
            }
            return ObjectCondition(
                key, .ztunnelPolicy, type: Self.ztunnelAccepted, isTrue: false, reason: "UnsupportedValue",
                message: Set(found.map(\.message)).sorted().joined(separator: "; "),
                generation: policy.metadata.generation)
        }
    }

    // MARK: Policies of waypoints

    private func targets() -> [ObjectCondition] {
        surroundings.objects.authorizationPolicies.values.flatMap { policy in
            policy.targets.map { target in
                let (reason, message) = verdict(on: target, of: policy.metadata.namespace)
                return ObjectCondition(
                    KubernetesObject.authorizationPolicy(policy).key, .waypointPolicy,
                    ancestor: "\(target.kind)/\(target.name)", type: Self.waypointAccepted,
                    isTrue: reason == "Accepted", reason: reason, message: message,
                    generation: policy.metadata.generation)
            }
        }
    }

    private func verdict(on target: PolicyTarget, of namespace: String) -> (reason: String, message: String) {
        let objects = surroundings.objects
        let name = ObjectName(namespace: namespace, name: target.name)
        switch (target.group, target.kind) {
        case ("gateway.networking.k8s.io", "Gateway"):
            return objects.gateways[name] == nil
                ? ("TargetNotFound", "there is no Gateway \(name)") : ("Accepted", "bound to \(name)")
        case ("gateway.networking.k8s.io", "GatewayClass"):
            guard namespace == surroundings.configuration.rootNamespace else {
                return (
                    "Invalid",
                    "a GatewayClass is a target of policies in \(surroundings.configuration.rootNamespace) alone"
                )
            }
            guard let found = objects.gatewayClasses[target.name] else {
                return ("TargetNotFound", "there is no GatewayClass \(target.name)")
            }
            return found.controllerName == Self.meshController
                ? ("Accepted", "bound to \(target.name)")
                : ("Invalid", "GatewayClass \(target.name) is of \(found.controllerName), not \(Self.meshController)")
        case ("", "Service"), ("core", "Service"):
            guard let service = objects.services[name] else {
                return ("TargetNotFound", "there is no Service \(name)")
            }
            return bound(name, surroundings.waypoints.attachment(of: service.metadata, as: .service))
        case ("networking.istio.io", "ServiceEntry"):
            guard let entry = objects.serviceEntries[name] else {
                return ("TargetNotFound", "there is no ServiceEntry \(name)")
            }
            return bound(name, attachment(of: entry))
        default:
            return ("Invalid", "\(target.kind) of group \"\(target.group)\" is no target")
        }
    }

    private func bound(_ name: ObjectName, _ found: WaypointAttachment) -> (reason: String, message: String) {
        found.waypoint.map { ("Accepted", "bound to \($0.name)") }
            ?? ("AncestorNotBound", "\(name) is not bound to a waypoint")
    }
}

extension WaypointAttachment.Refusal {
    fileprivate func text(_ wish: ObjectName) -> String {
        switch self {
        case .notReady: "waypoint \(wish) is not ready: it has no address or no HBONE listener"
        case .missing: "there is no Gateway \(wish)"
        case .unsupportedTraffic:
            "waypoint \(wish) is not for this kind of traffic; see its label istio.io/waypoint-for"
        case .denied: "waypoint \(wish) does not admit this namespace; see allowedRoutes of its listener"
        case .crossNamespace: "waypoint \(wish) is in another namespace, from where the host is not seen"
        }
    }
}
