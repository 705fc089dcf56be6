import Testing

@testable import CNI

/// A netconf as a runtime writes it, with one field more or changed.
func netconf(_ version: String = "1.0.0", _ fields: String = "") -> String {
    #"{"cniVersion":"\#(version)","name":"pods","type":"apus-cni"\#(fields.isEmpty ? "" : "," + fields)}"#
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func read(_ text: String) throws -> JSONValue { try JSONReader.read(bytes(text)) }

func text(_ value: JSONValue) -> String { String(decoding: value.bytes, as: UTF8.self) }

/// The variables of an ADD for a pod.
let addVariables = [
    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c0ffee", "CNI_NETNS": "/run/netns/pod", "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1",
]

func variables(_ command: String, _ changes: [String: String?] = [:]) -> [String: String] {
    var result = addVariables
    result["CNI_COMMAND"] = command
    for (name, value) in changes { result[name] = value }
    return result
}

func parse(_ variables: [String: String], _ stdin: String) throws(CNIError) -> PluginInvocation {
    try PluginInvocation.parse(environment: PluginEnvironment(variables), stdin: bytes(stdin))
}

/// The error of a call that must fail.
func failure(_ variables: [String: String], _ stdin: String) throws -> CNIError {
    try #require(throws: CNIError.self) { _ = try parse(variables, stdin) }
}

extension PluginInvocation {
    /// The attachment of an ADD, DEL or CHECK.
    var attachment: Attachment? {
        switch self {
        case .add(let attachment), .delete(let attachment), .check(let attachment): attachment
        default: nil
        }
    }
}
