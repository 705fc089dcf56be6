import Foundation
import ObjectSource

/// Who holds what, and until when (`coordination.k8s.io/v1`). The server's version in it makes taking it over safe: of two
/// who write at once one gets `conflict`.
public struct Lease: Sendable, Hashable {
    public var namespace: String
    public var name: String
    /// Empty when nobody holds it.
    public var holder: String
    public var duration: Duration
    /// Seconds since 1970, with a fraction.
    public var acquired: Double?
    public var renewed: Double?
    public var transitions: Int
    /// Empty for one that is not there yet.
    public var version: String

    public init(
        namespace: String, name: String, holder: String = "", duration: Duration = .seconds(15),
        acquired: Double? = nil, renewed: Double? = nil, transitions: Int = 0, version: String = ""
    ) {
        self.namespace = namespace
        self.name = name
        self.holder = holder
        self.duration = duration
        self.acquired = acquired
        self.renewed = renewed
        self.transitions = transitions
        self.version = version
    }

    init(_ node: DocumentNode) throws(KubernetesError) {
        guard let name = node["metadata"]?["name"]?.string, let spec = node["spec"] else {
            throw KubernetesError(.badAnswer, "the answer is no Lease")
        }
        func moment(_ field: String) -> Double? {
            spec[field]?.string.flatMap { text in
                guard let seconds = ObjectMeta.seconds(of: text) else { return nil }
                let fraction = text.firstIndex(of: ".").map { text[$0...].prefix { $0 == "." || $0.isNumber } }
                return Double(seconds) + (fraction.flatMap { Double("0\($0)") } ?? 0)
            }
        }
        self.init(
            namespace: node["metadata"]?["namespace"]?.string ?? "", name: name,
            holder: spec["holderIdentity"]?.string ?? "",
            duration: .seconds(spec["leaseDurationSeconds"]?.integer ?? 0), acquired: moment("acquireTime"),
            renewed: moment("renewTime"), transitions: spec["leaseTransitions"]?.integer ?? 0,
            version: node.resourceVersion)
    }

    var json: JSON {
        var metadata: [String: JSON] = ["name": .string(name), "namespace": .string(namespace)]
        if !version.isEmpty { metadata["resourceVersion"] = .string(version) }
        var spec: [String: JSON] = [
            "holderIdentity": .string(holder), "leaseTransitions": .integer(transitions),
            "leaseDurationSeconds": .integer(Int(max(1, duration.components.seconds))),
        ]
        spec["acquireTime"] = acquired.map { .string(Self.microTime($0)) }
        spec["renewTime"] = renewed.map { .string(Self.microTime($0)) }
        return [
            "apiVersion": .string(APIResource.leases.apiVersion), "kind": "Lease", "metadata": .object(metadata),
            "spec": .object(spec),
        ]
    }

    /// As the API wants it: with six digits of a second.
    static func microTime(_ seconds: Double) -> String {
        let whole = seconds.rounded(.down)
        let micros = min(999_999, Int((seconds - whole) * 1_000_000))
        let text = Date(timeIntervalSince1970: whole).formatted(.iso8601)
        return text.dropLast() + "." + String(repeating: "0", count: 6 - String(micros).count) + "\(micros)Z"
    }
}

extension KubernetesClient {
    /// - Returns: `nil` when there is none.
    public func lease(_ name: String, namespace: String) async throws(KubernetesError) -> Lease? {
        do {
            return try Lease(try await get(.leases, name, namespace: namespace))
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }

    /// Makes the lease, or changes the very version that was read.
    /// - Throws: `conflict` when somebody was faster.
    public func write(_ lease: Lease) async throws(KubernetesError) -> Lease {
        lease.version.isEmpty
            ? try Lease(try await create(.leases, lease.json, namespace: lease.namespace))
            : try Lease(try await update(.leases, lease.name, lease.json, namespace: lease.namespace))
    }
}
