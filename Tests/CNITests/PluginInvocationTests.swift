import Testing

@testable import CNI

@Suite struct PluginInvocationTests {
    @Test(arguments: [[:], ["CNI_COMMAND": ""], ["CNI_CONTAINERID": "x"]] as [[String: String]])
    func tellsAboutItselfWithoutACommand(_ variables: [String: String]) throws {
        guard case .about = try parse(variables, "garbage") else {
            Issue.record("not about")
            return
        }
    }

    @Test(arguments: [
        ("", "1.1.0"), ("garbage", "1.1.0"), ("{}", "1.1.0"), (#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (#"{"cniVersion":"9.9.9"}"#, "9.9.9"), (#"{"cniVersion":"x"}"#, "1.1.0"), (#"{"cniVersion":1}"#, "1.1.0"),
        (#"{"cniVersion":"1.0.0","cniVersion":"0.3.1"}"#, "0.3.1"),
    ])
    func reportsVersions(_ stdin: String, _ echoed: String) throws {
        guard case .version(let report) = try parse(["CNI_COMMAND": "VERSION"], stdin) else {
            Issue.record("not a version report")
            return
        }
        #expect(
            text(report.json)
                == #"{"cniVersion":"\#(echoed)","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}"#)
    }

    @Test func readsAnAdd() throws {
        guard case .add(let attachment) = try parse(addVariables, netconf()) else {
            Issue.record("not an ADD")
            return
        }
        #expect(attachment.id == AttachmentID(containerID: "c0ffee", interfaceName: "eth0"))
        #expect(attachment.namespacePath == "/run/netns/pod")
        #expect(attachment.arguments.podName == "web-0")
        #expect(attachment.arguments.podNamespace == "shop")
        #expect(attachment.arguments.podUID == "u-1")
        #expect(attachment.warnings.isEmpty)
    }

    @Test(arguments: [
        // (command, versions that allow it)
        ("ADD", SpecVersion.allCases), ("DEL", SpecVersion.allCases), ("CHECK", [.v0_4_0, .v1_0_0, .v1_1_0]),
        ("STATUS", [.v1_1_0]), ("GC", [.v1_1_0]),
    ])
    func knowsWhatAVersionAllows(_ command: String, _ allowed: [SpecVersion]) throws {
        for version in SpecVersion.allCases {
            if allowed.contains(version) {
                _ = try parse(variables(command), netconf(version.rawValue))
            } else {
                let error = try failure(variables(command), netconf(version.rawValue))
                #expect(error.code == .incompatibleVersion)
                #expect(error.message == "config version \(version.rawValue) does not allow \(command)")
                #expect(error.version == version.rawValue)
            }
        }
    }

    @Test(arguments: [
        "", "x", "[]", "null", "\"x\"", "1", "{", "{}x", "\u{feff}{}", "{\"cniVersion\":\"1.0.0\",}",
        String(repeating: "[", count: JSONReader.maximumSize),
        String(repeating: " ", count: JSONReader.maximumSize + 1),
    ])
    func refusesWhatIsNoObject(_ stdin: String) throws {
        for command in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            let error = try failure(variables(command), stdin)
            #expect(error.code == .decoding)
            #expect(error.message.contains("the network configuration on stdin"))
            #expect(error.version == "1.1.0")
            #expect("\(error)".utf8.count < 600)
        }
    }

    @Test func namesTheSizeLimit() throws {
        let stdin = netconf("1.0.0", "\"x\":\"\(String(repeating: "x", count: JSONReader.maximumSize))\"")
        let error = try failure(addVariables, stdin)
        #expect(error.code == .decoding)
        #expect(error.message.contains("longer than 1048576 bytes"))
    }

    @Test func checksTheEnvironmentFirst() throws {
        #expect(try failure(["CNI_COMMAND": "ADD"], "garbage").code == .invalidEnvironment)
        let error = try failure(variables("ADD", ["CNI_IFNAME": "a/b"]), netconf("0.4.0"))
        #expect(error.code == .invalidEnvironment)
        #expect(error.version == "0.4.0")
    }

    // MARK: DEL

    @Test(arguments: [
        (#""prevResult":{}"#, 0), (#""prevResult":null"#, 0), (#""prevResult":[1]"#, 1),
        (#""prevResult":{"ips":[{"address":"x"}]}"#, 1), (#""agentSocket":5"#, 1),
        (#""agentTimeoutMilliseconds":0"#, 1),
        (#""exemptNamespaces":7,"prevResult":"x""#, 2),
    ])
    func deletesInSpiteOf(_ fields: String, _ warnings: Int) throws {
        for namespace in ["/run/netns/pod", ""] {
            let invocation = try parse(variables("DEL", ["CNI_NETNS": namespace]), netconf("1.0.0", fields))
            guard case .delete(let attachment) = invocation else {
                Issue.record("not a DEL")
                return
            }
            #expect(attachment.warnings.count == warnings)
            #expect(attachment.id.containerID == "c0ffee")
        }
    }

    @Test(arguments: ["garbage", "a=b", ";;"])
    func deletesInSpiteOfArguments(_ arguments: String) throws {
        let attachment = try #require(try parse(variables("DEL", ["CNI_ARGS": arguments]), netconf()).attachment)
        #expect(attachment.warnings.map(\.code) == [.invalidEnvironment])
        #expect(try failure(variables("ADD", ["CNI_ARGS": arguments]), netconf()).code == .invalidEnvironment)
        #expect(try failure(variables("CHECK", ["CNI_ARGS": arguments]), netconf()).code == .invalidEnvironment)
    }

    @Test func keepsTheSocketOfADelWithAFlaw() throws {
        let fields = #""agentSocket":"/x/y","agentTimeoutMilliseconds":"soon""#
        let attachment = try #require(try parse(variables("DEL"), netconf("1.0.0", fields)).attachment)
        #expect(attachment.configuration.agentSocket == "/x/y")
        #expect(attachment.configuration.agentTimeoutMilliseconds == 10_000)
    }

    // MARK: GC

    private func valid(_ fields: String) throws -> [AttachmentID]? {
        guard case .collectGarbage(_, let valid) = try parse(variables("GC"), netconf("1.1.0", fields)) else {
            Issue.record("not a GC")
            return nil
        }
        return valid
    }

    @Test func readsValidAttachments() throws {
        let list = #"[{"containerID":"a","ifname":"eth0"},{"ifname":"net1","containerID":"b","x":1}]"#
        let expected = [
            AttachmentID(containerID: "a", interfaceName: "eth0"),
            AttachmentID(containerID: "b", interfaceName: "net1"),
        ]
        #expect(try valid("\"cni.dev/valid-attachments\":\(list)") == expected)
        #expect(try valid("\"cni.dev/attachments\":\(list)") == expected)
        #expect(try valid("\"cni.dev/attachments\":[],\"cni.dev/valid-attachments\":\(list)") == expected)
    }

    @Test func tellsNoneFromNotSaid() throws {
        #expect(try valid("\"cni.dev/valid-attachments\":[]") == [])
        #expect(try valid("\"cni.dev/valid-attachments\":null") == [])
        #expect(try valid("") == nil)
    }

    @Test(arguments: [
        ("{}", CNIError.Code.decoding), ("\"x\"", .decoding), ("[1]", .decoding), ("[{\"containerID\":1}]", .decoding),
        ("[{}]", .invalidConfiguration), ("[{\"containerID\":\"a\"}]", .invalidConfiguration),
        ("[{\"containerID\":\"\",\"ifname\":\"e\"}]", .invalidConfiguration),
    ])
    func refusesAListWithAFlaw(_ list: String, _ code: CNIError.Code) throws {
        let error = try failure(variables("GC"), netconf("1.1.0", "\"cni.dev/valid-attachments\":\(list)"))
        #expect(error.code == code)
        #expect(error.message.contains("cni.dev/valid-attachments"))
    }
}
