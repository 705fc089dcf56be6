import Testing

@testable import CNI

@Suite struct NetworkConfigurationTests {
    private func configuration(_ fields: String, _ version: String = "1.1.0") throws -> NetworkConfiguration {
        try #require(try parse(variables("ADD"), netconf(version, fields)).attachment).configuration
    }

    @Test func hasDefaults() throws {
        let configuration = try configuration("")
        #expect(configuration.name == "pods")
        #expect(configuration.type == "apus-cni")
        #expect(configuration.version == .v1_1_0)
        #expect(configuration.agentSocket == "/run/apus/cni.sock")
        #expect(configuration.agentTimeoutMilliseconds == 10_000)
        #expect(configuration.exemptNamespaces == ["kube-system", "istio-system"])
        #expect(configuration.previousResult == nil)
        #expect(configuration.isExempt(namespace: "kube-system"))
        #expect(!configuration.isExempt(namespace: "\u{212a}ube-system"))
        #expect(!configuration.isExempt(namespace: ""))
    }

    @Test func readsItsOwnFields() throws {
        let configuration = try configuration(
            #""agentSocket":"/a/b","agentTimeoutMilliseconds":250,"exemptNamespaces":["x","y"],"more":[1]"#)
        #expect(configuration.agentSocket == "/a/b")
        #expect(configuration.agentTimeoutMilliseconds == 250)
        #expect(configuration.exemptNamespaces == ["x", "y"])
        #expect(configuration.document["more"] == .array([.number(JSONNumber(1))]))
    }

    @Test(arguments: [
        #""agentSocket":null,"agentTimeoutMilliseconds":null,"exemptNamespaces":null,"prevResult":null"#,
        #""ipam":{},"dns":{},"runtimeConfig":{"portMappings":[]},"args":{"cni":{}},"capabilities":{}"#,
    ])
    func takesNullAndForeignFieldsAsNothing(_ fields: String) throws {
        let configuration = try configuration(fields)
        #expect(configuration.agentSocket == NetworkConfiguration.defaultAgentSocket)
        #expect(configuration.exemptNamespaces == NetworkConfiguration.defaultExemptNamespaces)
        #expect(configuration.previousResult == nil)
    }

    @Test func canExemptNothing() throws {
        #expect(try !configuration(#""exemptNamespaces":[]"#).isExempt(namespace: "kube-system"))
    }

    @Test(arguments: [
        (#""agentSocket":5"#, "agentSocket", "a number"), (#""agentSocket":[]"#, "agentSocket", "an array"),
        (#""agentTimeoutMilliseconds":"5""#, "agentTimeoutMilliseconds", "a string"),
        (#""agentTimeoutMilliseconds":1.5"#, "agentTimeoutMilliseconds", "a number"),
        (#""agentTimeoutMilliseconds":1e99"#, "agentTimeoutMilliseconds", "a number"),
        (#""exemptNamespaces":"x""#, "exemptNamespaces", "a string"),
        (#""exemptNamespaces":{}"#, "exemptNamespaces", "an object"),
        (#""exemptNamespaces":["a",1]"#, "exemptNamespaces[1]", "a number"),
        (#""exemptNamespaces":[null]"#, "exemptNamespaces[0]", "null"),
        (#""prevResult":[]"#, "prevResult", "an array"), (#""prevResult":"x""#, "prevResult", "a string"),
        (#""prevResult":true"#, "prevResult", "a boolean"), (#""type":1"#, "type", "a number"),
    ])
    func namesTheFieldOfAWrongType(_ fields: String, _ field: String, _ kind: String) throws {
        let error = try failure(variables("ADD"), netconf("1.0.0", fields))
        #expect(error.code == .decoding)
        #expect(error.message.hasPrefix("field \(field) must be "), "\(error)")
        #expect(error.message.hasSuffix("found \(kind)"), "\(error)")
        #expect(error.version == "1.0.0")
    }

    @Test(arguments: [
        #""agentSocket":"""#, #""agentSocket":"run/cni.sock""#, #""agentSocket":"/a\u0000b""#,
        #""agentSocket":"/\#(String(repeating: "x", count: 107))""#, #""agentTimeoutMilliseconds":0"#,
        #""agentTimeoutMilliseconds":-1"#, #""agentTimeoutMilliseconds":120001"#,
    ])
    func refusesWrongValues(_ fields: String) throws {
        let error = try failure(variables("ADD"), netconf("1.0.0", fields))
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.hasPrefix("invalid agent"), "\(error)")
    }

    @Test func takesTheLongestSocketPath() throws {
        let path = "/" + String(repeating: "x", count: 106)
        #expect(try configuration(#""agentSocket":"\#(path)""#).agentSocket == path)
    }

    // MARK: Name

    @Test(arguments: [#""name":"""#, #""x":1"#, #""name":null"#])
    func needsAName(_ field: String) throws {
        for command in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            let error = try failure(variables(command), #"{"cniVersion":"1.1.0",\#(field)}"#)
            #expect(error.code == .invalidConfiguration)
            #expect(error.message == "missing network name")
            #expect(error.version == "1.1.0")
        }
    }

    @Test(arguments: ["-a", ".a", "_a", "a b", "a/b", "é", "a\u{7f}", "a\\n"])
    func refusesNames(_ name: String) throws {
        let error = try failure(variables("ADD"), #"{"cniVersion":"1.1.0","name":"\#(name)"}"#)
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.hasPrefix("invalid network name: "))
    }

    @Test func refusesANameThatIsNoString() throws {
        let error = try failure(variables("ADD"), #"{"cniVersion":"1.1.0","name":7}"#)
        #expect(error.code == .decoding)
    }

    // MARK: Version

    @Test(arguments: SpecVersion.allCases)
    func speaks(_ version: SpecVersion) throws {
        #expect(try configuration("", version.rawValue).version == version)
    }

    @Test(arguments: [
        "0.1.0", "0.2.0", "0.3.0", "1.2.0", "2.0.0", "1.0", "1.0.0.0", "v1.0.0", " 1.0.0", "1.0.0-rc1", "x",
    ])
    func doesNotSpeak(_ version: String) throws {
        for command in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            let error = try failure(variables(command), netconf(version))
            #expect(error.code == .incompatibleVersion)
            #expect(error.message == "incompatible CNI versions")
            #expect(error.details.contains(version))
            #expect(error.details.contains(#""0.3.1" "0.4.0" "1.0.0" "1.1.0""#))
            #expect(error.version == (SpecVersion.isWellFormed(version) ? version : "1.1.0"))
        }
    }

    @Test(arguments: [#"{"name":"n"}"#, #"{"name":"n","cniVersion":""}"#, #"{"name":"n","cniVersion":null}"#])
    func takesNoVersionForTheOldest(_ stdin: String) throws {
        let error = try failure(variables("ADD"), stdin)
        #expect(error.code == .incompatibleVersion)
        #expect(error.details.contains("0.1.0"))
    }

    @Test func refusesAVersionThatIsNoString() throws {
        #expect(try failure(variables("ADD"), #"{"name":"n","cniVersion":1.0}"#).code == .decoding)
    }

    @Test func ordersVersions() {
        #expect(SpecVersion.allCases == SpecVersion.allCases.sorted())
        #expect(SpecVersion.newest == SpecVersion.allCases.max())
        #expect(!SpecVersion.v0_3_1.hasCheck && SpecVersion.v0_4_0.hasCheck)
        #expect(!SpecVersion.v1_0_0.hasStatusAndGarbageCollection && SpecVersion.v1_1_0.hasStatusAndGarbageCollection)
    }

    @Test(arguments: [
        ("1.0.0", true), ("0.3.1", true), ("10.20.30", true), ("", false), ("1", false), ("1.0", false),
        ("1..0", false),
        ("1.0.", false), ("a.b.c", false), ("1.0.0 ", false), (String(repeating: "1", count: 30) + ".1.1", false),
    ])
    func knowsVersionsByTheirForm(_ text: String, _ expected: Bool) {
        #expect(SpecVersion.isWellFormed(text) == expected)
    }
}
