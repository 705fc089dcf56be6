import Mesh
import ObjectSource

/// Which waypoint an object uses, by its labels or those of its namespace.
struct WaypointAttachment: Hashable {
    enum Subject { case service, workload }

    /// Why an object that asks for a waypoint has none. The names are Istio's.
    enum Refusal: String, Hashable {
        case notReady = "WaypointIsNotReady"
        case missing = "WaypointMissing"
        case unsupportedTraffic = "UnsupportedTrafficType"
        case denied = "AttachmentDenied"
        case crossNamespace = "CrossNamespaceWaypointForbidden"
    }

    /// What is wrong with the second waypoint; the first takes all traffic.
    enum CanaryProblem: String, Hashable {
        case invalidWeight = "CanaryInvalidWeight"
        case sameAsPrimary = "CanarySameAsPrimary"
        case notUsable = "CanaryNotReady"
    }

    /// The waypoint that was asked for, whether it is had or not; `nil` when none was.
    var wish: ObjectName?
    var waypoint: Waypoint?
    var canary: (waypoint: Waypoint, weight: UInt32)? {
        get { canaryWaypoint.map { ($0, canaryWeight) } }
        set {
            canaryWaypoint = newValue?.waypoint
            canaryWeight = newValue?.weight ?? 0
        }
    }
    var refusal: Refusal?
    var canaryProblem: CanaryProblem?
    private var canaryWaypoint: Waypoint?
    private var canaryWeight: UInt32 = 0

    init() {}

    /// In parts of 100; empty where one waypoint has all.
    var weighted: [Mesh.Service.WeightedWaypoint] {
        guard let waypoint, let canary else { return [] }
        return [
            .init(waypoint.address, weight: 100 - canary.weight), .init(canary.waypoint.address, weight: canary.weight),
        ]
    }
}

extension WaypointTable {
    static let useLabel = "istio.io/use-waypoint"
    static let useNamespaceLabel = "istio.io/use-waypoint-namespace"
    static let canaryLabel = "istio.io/use-waypoint-canary"
    static let canaryNamespaceLabel = "istio.io/use-waypoint-canary-namespace"
    static let canaryWeight = "istio.io/use-waypoint-canary-weight"
    static let ingressLabel = "istio.io/ingress-use-waypoint"
    static let managedLabel = "gateway.istio.io/managed"

    /// The nearest label decides, also when what it names is not there: going past a waypoint that somebody asked for
    /// by taking another one, or the namespace's, would go past its policies.
    ///
    /// - Parameter ownNamespaceOnly: The object is hidden from other namespaces, and so from their waypoints.
    func attachment(
        of object: ObjectMeta, labels: [String: String]? = nil, as subject: WaypointAttachment.Subject,
        ownNamespaceOnly: Bool = false
    ) -> WaypointAttachment {
        var result = WaypointAttachment()
        let labels = labels ?? object.labels
        if let manager = labels[Self.managedLabel],
            manager == "istio.io-mesh-controller" || manager == "istio.io-eastwest-controller"
        {
            // A waypoint behind a waypoint would be a loop.
            return result
        }
        let level: (labels: [String: String], annotations: [String: String], isInherited: Bool)
        if labels[Self.useLabel]?.isEmpty == false {
            level = (labels, object.annotations, false)
        } else if let namespace = namespace(object.namespace), namespace.labels[Self.useLabel]?.isEmpty == false {
            level = (namespace.labels, namespace.annotations, true)
        } else {
            return result
        }
        guard let name = level.labels[Self.useLabel], name != "none" else { return result }
        let wish = ObjectName(
            namespace: Self.value(level.labels, Self.useNamespaceLabel) ?? object.namespace, name: name)
        switch find(wish, for: object.namespace, subject, ownNamespaceOnly) {
        case .success(let waypoint):
            result.wish = wish
            result.waypoint = waypoint
        case .failure(.unsupportedTraffic) where level.isInherited && subject == .workload:
            // A namespace's waypoint for services says nothing about its pods.
            return result
        case .failure(let refusal):
            result.wish = wish
            result.refusal = refusal
            return result
        }
        addCanary(level.labels, level.annotations, object.namespace, subject, ownNamespaceOnly, to: &result)
        return result
    }

    private func find(
        _ name: ObjectName, for namespace: String, _ subject: WaypointAttachment.Subject, _ ownNamespaceOnly: Bool
    ) -> Result<Waypoint, WaypointAttachment.Refusal> {
        guard !ownNamespaceOnly || name.namespace == namespace else { return .failure(.crossNamespace) }
        guard let waypoint = all[name] else { return .failure(isKnown(name) ? .notReady : .missing) }
        guard subject == .service ? waypoint.servesServices : waypoint.servesWorkloads else {
            return .failure(.unsupportedTraffic)
        }
        guard admits(namespace, to: waypoint) else { return .failure(.denied) }
        return .success(waypoint)
    }

    private func addCanary(
        _ labels: [String: String], _ annotations: [String: String], _ namespace: String,
        _ subject: WaypointAttachment.Subject, _ ownNamespaceOnly: Bool, to result: inout WaypointAttachment
    ) {
        guard subject == .service, let name = Self.value(labels, Self.canaryLabel) else { return }
        let wish = ObjectName(namespace: Self.value(labels, Self.canaryNamespaceLabel) ?? namespace, name: name)
        guard wish != result.wish else {
            result.canaryProblem = .sameAsPrimary
            return
        }
        guard let weight = annotations[Self.canaryWeight].flatMap({ UInt32($0) }), weight <= 100 else {
            result.canaryProblem = .invalidWeight
            return
        }
        guard case .success(let canary) = find(wish, for: namespace, subject, ownNamespaceOnly) else {
            result.canaryProblem = .notUsable
            return
        }
        result.canary = (canary, weight)
    }

    /// Whether traffic from outside goes through the waypoint as well.
    func takesIngress(_ object: ObjectMeta) -> Bool {
        let own = object.labels[Self.ingressLabel]
        return (own ?? namespace(object.namespace)?.labels[Self.ingressLabel]) == "true"
    }

    private static func value(_ labels: [String: String], _ name: String) -> String? {
        labels[name].flatMap { $0.isEmpty ? nil : $0 }
    }
}

extension WaypointAttachment.Refusal: Error {}
