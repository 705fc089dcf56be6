import CNI
import Glibc
import LinuxNetwork
import Testing

/// A pod's namespace, and the calls a runtime makes for it.
///
/// The plugin reaches the namespace through a descriptor of this process, so that nothing has to be given a name.
final class Pod: Sendable {
    let namespace: NetworkNamespace
    var path: String { "/proc/\(getpid())/fd/\(namespace.raw)" }

    init() throws { namespace = try NetworkNamespace.make() }

    func variables(_ command: String, _ changes: [String: String?] = [:]) -> [String: String] {
        var result = [
            "CNI_COMMAND": command, "CNI_CONTAINERID": "c0ffee", "CNI_NETNS": path, "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1;X=y",
        ]
        for (name, value) in changes { result[name] = value }
        return result
    }
}

/// A netconf for the agent at a socket.
func netconf(_ agent: FakeAgent, _ version: String = "1.0.0", _ fields: String = "") -> String {
    netconf(socket: agent.socketPath, version, fields)
}

func netconf(socket: String, _ version: String = "1.0.0", _ fields: String = "") -> String {
    """
    {"cniVersion":"\(version)","name":"pods","type":"apus-cni","agentSocket":"\(socket)"\
    \(fields.isEmpty ? "" : "," + fields)}
    """
}

let result100 = """
    {"cniVersion":"1.0.0","zeta":{"b":1.50,"a":1e400},"interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[\
    {"address":"10.1.2.3/24","gateway":"10.1.2.1","interface":0},{"address":"fd00::3/64"}],"dup":1,"dup":2,"dns":{}}
    """

/// A socket path nobody listens at.
let nowhere = "/run/apus-cni-test-nobody/cni.sock"

/// The outcome is a success with nothing on stdout.
func expectSilentSuccess(_ outcome: PluginProcess.Outcome, _ location: SourceLocation = #_sourceLocation) {
    #expect(outcome.exitCode == 0, "\(outcome.text) \(outcome.stderr)", sourceLocation: location)
    #expect(outcome.stdout.isEmpty, "\(outcome.text)", sourceLocation: location)
}

/// The outcome is exactly one error object on stdout and exit code 1; and the error is told on stderr too.
@discardableResult
func expectError(
    _ outcome: PluginProcess.Outcome, _ code: CNIError.Code, version: String = "1.0.0",
    _ location: SourceLocation = #_sourceLocation
) -> CNIError? {
    #expect(outcome.exitCode == 1, sourceLocation: location)
    guard let error = outcome.error else {
        Issue.record("no error object: \(outcome.text) \(outcome.stderr)", sourceLocation: location)
        return nil
    }
    #expect(error.code == code, "\(error)", sourceLocation: location)
    #expect(error.version == version, "\(error)", sourceLocation: location)
    #expect(outcome.stdout.last == 0x0a, sourceLocation: location)
    #expect(outcome.stderr.hasPrefix("apus-cni: "), "\(outcome.stderr)", sourceLocation: location)
    #expect(outcome.stderr.contains("(code \(code.rawValue))"), "\(outcome.stderr)", sourceLocation: location)
    return error
}
