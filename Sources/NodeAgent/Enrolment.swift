import ObjectSource
import Redirection

/// Whether a pod belongs in the mesh, and why.
public enum EnrolmentDecision: Hashable, Sendable {
    case enrol
    case stayOut(Reason)

    public enum Reason: String, Hashable, Sendable {
        /// Neither the pod nor its namespace asks for it.
        case notLabelled
        /// The pod's own label says `none`.
        case podOptsOut
        /// The pod uses the node's network.
        case hostNetwork
        /// The pod has a sidecar.
        case sidecar
        /// The namespace is on the list of those that are never enrolled.
        case exemptNamespace
        /// All containers have ended.
        case finished
    }
}

/// Who is enrolled: Istio's rules for ambient mode, as a pure function of labels and annotations.
public struct EnrolmentRules: Hashable, Sendable {
    /// Namespaces that are never enrolled, whatever their labels.
    public var exemptNamespaces: Set<String>
    /// A pod is enrolled when any of them matches.
    public var selectors: [EnablementSelector]

    public init(
        exemptNamespaces: Set<String> = ["kube-system", "istio-system"],
        selectors: [EnablementSelector] = EnablementSelector.standard
    ) {
        self.exemptNamespaces = exemptNamespaces
        self.selectors = selectors
    }

    static let modeLabel = MeshLabel.dataplaneMode
    static let ambient = "ambient"
    static let sidecarAnnotation = "sidecar.istio.io/status"

    public func decide(_ pod: Pod, namespaceLabels: [String: String]) -> EnrolmentDecision {
        if exemptNamespaces.contains(pod.metadata.namespace) { return .stayOut(.exemptNamespace) }
        if pod.spec.hostNetwork { return .stayOut(.hostNetwork) }
        if pod.metadata.annotations[Self.sidecarAnnotation] != nil { return .stayOut(.sidecar) }
        if pod.status.phase?.isTerminal == true { return .stayOut(.finished) }
        let isSelected = selectors.contains {
            $0.pods.matches(pod.metadata.labels) && $0.namespaces.matches(namespaceLabels)
        }
        if isSelected { return .enrol }
        return .stayOut(pod.metadata.labels[Self.modeLabel] == "none" ? .podOptsOut : .notLabelled)
    }

    /// Whether a pod of which nothing is known but its namespace could belong in the mesh.
    func mayEnrol(inNamespace name: String, labels: [String: String]) -> Bool {
        !exemptNamespaces.contains(name) && selectors.contains { $0.namespaces.matches(labels) }
    }

    /// What asks for enrolment in an exempt namespace, in vain: `namespace x` and `pod x/y`, sorted.
    public func vainRequests(in snapshot: ObjectSnapshot) -> [String] {
        var found: [String] = []
        for name in exemptNamespaces
        where snapshot.namespaces[name]?.metadata.labels[Self.modeLabel] == Self.ambient {
            found.append("namespace \(name)")
        }
        for pod in snapshot.pods.values
        where exemptNamespaces.contains(pod.metadata.namespace)
            && pod.metadata.labels[Self.modeLabel] == Self.ambient
        {
            found.append("pod \(pod.name)")
        }
        return found.sorted()
    }
}

/// What a pod's annotations change about its capture.
struct CaptureOverrides: Hashable, Sendable {
    var bypassesInbound = false
    /// `nil`: as the node has it.
    var capturesDNS: Bool?
    /// Interfaces by which guests of the pod send; sorted, each once.
    var virtualInterfaces: [String] = []
    /// Annotations whose value means nothing; the default holds in their place.
    var invalid: [String] = []

    static let bypassInbound = "ambient.istio.io/bypass-inbound-capture"
    static let dnsCapture = "ambient.istio.io/dns-capture"
    static let rerouteVirtualInterfaces = "istio.io/reroute-virtual-interfaces"

    init(_ annotations: [String: String]) {
        bypassesInbound = read(Self.bypassInbound, in: annotations) ?? false
        capturesDNS = read(Self.dnsCapture, in: annotations)
        virtualInterfaces = interfaces(Self.rerouteVirtualInterfaces, in: annotations)
    }

    /// A list with commas; white space around a name and empty names mean nothing. A name that no interface can have is
    /// passed over, the others count.
    private mutating func interfaces(_ name: String, in annotations: [String: String]) -> [String] {
        var found: Set<String> = []
        for part in annotations[name]?.split(separator: ",") ?? [] {
            let text = Self.trimmed(part)
            if text.isEmpty { continue }
            if let problem = InterfaceName.virtualProblem(text) {
                invalid.append("\(name): \"\(text.prefix(40))\" \(problem)")
            } else {
                found.insert(text)
            }
        }
        let most = RedirectionPlan.mostVirtualInterfaces
        if found.count > most { invalid.append("\(name): \(found.count) names; only the first \(most), sorted, count") }
        return Array(found.sorted().prefix(most))
    }

    private static func trimmed(_ text: Substring) -> String {
        let start = text.drop(while: \.isWhitespace)
        return String(start.reversed().drop(while: \.isWhitespace).reversed())
    }

    private mutating func read(_ name: String, in annotations: [String: String]) -> Bool? {
        guard let text = annotations[name] else { return nil }
        if let value = Self.boolean(text) { return value }
        invalid.append("\(name): \"\(text)\" is neither true nor false")
        return nil
    }

    /// The spellings that Istio takes.
    static func boolean(_ text: String) -> Bool? {
        switch text {
        case "1", "t", "T", "true", "TRUE", "True": true
        case "0", "f", "F", "false", "FALSE", "False": false
        default: nil
        }
    }
}
