import Foundation
import Testing

@testable import CNI

@Suite struct ConfigurationListTests {
    private static let list = """
        {"cniVersion":"1.0.0","name":"pods","disableCheck":true,"plugins":[{"type":"bridge","z":1,"ipam":{"type":\
        "host-local"}},{"name":"own","type":"apus-cni","cniVersion":"0.1.0","exemptNamespaces":["a"]}]}
        """

    @Test func makesTheRequestsOfAChain() throws {
        let list = try ConfigurationList(bytes(Self.list))
        #expect(list.plugins.count == 2)
        #expect(list.type(ofPlugin: 0) == "bridge" && list.type(ofPlugin: 1) == "apus-cni")
        #expect(
            String(decoding: list.request(forPlugin: 0, previousResult: nil), as: UTF8.self)
                == #"{"type":"bridge","z":1,"ipam":{"type":"host-local"},"cniVersion":"1.0.0","name":"pods"}"#)
        let result = try read(#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}"#)
        let request = list.request(forPlugin: 1, previousResult: result)
        let attachment = try #require(
            try PluginInvocation.parse(environment: PluginEnvironment(addVariables), stdin: request).attachment)
        #expect(attachment.configuration.name == "pods")
        #expect(attachment.configuration.version == .v1_0_0)
        #expect(attachment.addresses == ["10.0.0.2/24"])
        #expect(attachment.result == result)
    }

    /// The example of the repository is one that works.
    @Test func readsTheExample() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try Data(contentsOf: root.appending(path: "cni-conf/10-apus.conflist"))
        let list = try ConfigurationList(Array(text))
        #expect(list.plugins.indices.map { list.type(ofPlugin: $0) } == ["bridge", "apus-cni"])
        let request = list.request(forPlugin: 1, previousResult: nil)
        let invocation = try PluginInvocation.parse(environment: PluginEnvironment(addVariables), stdin: request)
        let configuration = try #require(invocation.attachment).configuration
        #expect(configuration.agentSocket == NetworkConfiguration.defaultAgentSocket)
        #expect(configuration.exemptNamespaces == NetworkConfiguration.defaultExemptNamespaces)
    }

    @Test(arguments: [
        ("x", CNIError.Code.decoding), ("[]", .decoding), ("{}", .invalidConfiguration),
        (#"{"cniVersion":"1.0.0","name":"n"}"#, .invalidConfiguration),
        (#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, .invalidConfiguration),
        (#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#, .decoding),
        (#"{"cniVersion":"1.0.0","name":"n","plugins":[{}]}"#, .invalidConfiguration),
        (#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../sh"}]}"#, .invalidConfiguration),
        (#"{"cniVersion":"1.0.0","name":"n","plugins":["bridge"]}"#, .decoding),
        (#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"bridge"}]}"#, .incompatibleVersion),
    ])
    func refuses(_ text: String, _ code: CNIError.Code) throws {
        #expect(try #require(throws: CNIError.self) { _ = try ConfigurationList(bytes(text)) }.code == code)
    }
}
