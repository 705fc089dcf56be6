import Addressing
import Foundation

/// What a kubelet reports of a pod, written to the status folder as `<namespace>.<name>.kubelet.yaml`.
struct KubeletStatus: Sendable {
    var namespace: String
    var name: String
    var uid: String
    var node: String
    /// The node's own address.
    var hostAddress: String
    var addresses: [IPAddress]
    /// Whether its command runs.
    var isReady: Bool

    private static func path(_ namespace: String, _ name: String, _ layout: RunLayout) -> String {
        "\(layout.status)/\(namespace).\(name).kubelet.yaml"
    }

    /// A Pod object with only what the node knows.
    var yaml: String {
        var lines = [
            "apiVersion: v1",
            "kind: Pod",
            "metadata:",
            "  name: \(quoted(name))",
            "  namespace: \(quoted(namespace))",
            "  uid: \(quoted(uid))",
            "spec:",
            "  nodeName: \(quoted(node))",
            "status:",
            "  phase: \(isReady ? "Running" : "Pending")",
            "  hostIP: \(quoted(hostAddress))",
        ]
        if let first = addresses.first {
            lines.append("  podIP: \(quoted("\(first)"))")
            lines.append("  podIPs:")
            lines += addresses.map { "    - ip: \(quoted("\($0)"))" }
        }
        lines += ["  conditions:", "    - type: Ready", "      status: \"\(isReady ? "True" : "False")\""]
        return lines.joined(separator: "\n") + "\n"
    }

    private func quoted(_ text: String) -> String { "\"\(text)\"" }

    func write(_ layout: RunLayout) throws { try Files.replace(Self.path(namespace, name, layout), with: yaml) }

    static func remove(namespace: String, name: String, _ layout: RunLayout) throws {
        try Files.remove(path(namespace, name, layout))
    }
}
