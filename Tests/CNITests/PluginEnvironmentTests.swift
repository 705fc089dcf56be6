import Testing

@testable import CNI

@Suite struct PluginEnvironmentTests {
    @Test(arguments: [
        ("ADD", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("CHECK", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("DEL", ["CNI_CONTAINERID", "CNI_IFNAME"]), ("GC", ["CNI_PATH"]),
    ])
    func namesAllThatIsMissing(_ command: String, _ needed: [String]) throws {
        let all = try failure(["CNI_COMMAND": command], netconf("1.1.0"))
        #expect(all.code == .invalidEnvironment)
        #expect(all.message == "required env variables [\(needed.joined(separator: ","))] missing")
        for name in needed {
            for value in [nil, ""] as [String?] {
                let error = try failure(variables(command, [name: value]), netconf("1.1.0"))
                #expect(error.code == .invalidEnvironment)
                #expect(error.message == "required env variables [\(name)] missing")
                #expect(error.version == "1.1.0")
            }
        }
    }

    @Test(arguments: ["STATUS", "VERSION"])
    func needsNothingMore(_ command: String) throws {
        _ = try parse(["CNI_COMMAND": command], netconf("1.1.0"))
    }

    @Test(arguments: ["add", "Add", "DELETE", "ADD ", "x", "\u{1}\n\"", "\u{e9}", "VERSIONS", "CHEC\u{212a}"])
    func refusesUnknownCommands(_ command: String) throws {
        let error = try failure(variables(command), netconf())
        #expect(error.code == .invalidEnvironment)
        #expect(error.message.hasPrefix("unknown CNI_COMMAND: "))
        #expect(error.message.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f })
    }

    @Test(arguments: ["a", "0", "c0ffee", "A-b_c.d", "cnitool-77383ca0a0715733ca6f", String(repeating: "f", count: 64)])
    func takesContainerIDs(_ id: String) throws {
        #expect(try parse(variables("ADD", ["CNI_CONTAINERID": id]), netconf()).attachment?.id.containerID == id)
    }

    @Test(arguments: ["-a", "_a", ".a", "a b", "a/b", "../a", "a:b", "é", "a\n", " a", "a;b", "a\u{212a}"])
    func refusesContainerIDs(_ id: String) throws {
        for command in ["ADD", "DEL", "CHECK"] {
            let error = try failure(variables(command, ["CNI_CONTAINERID": id]), netconf())
            #expect(error.code == .invalidEnvironment)
            #expect(error.message.hasPrefix("invalid CNI_CONTAINERID: "))
        }
    }

    @Test(arguments: ["eth0", "e", "...", "a.b", "123456789012345", "net-1_x", "é"])
    func takesInterfaceNames(_ name: String) throws {
        #expect(try parse(variables("ADD", ["CNI_IFNAME": name]), netconf()).attachment?.id.interfaceName == name)
    }

    @Test(arguments: [
        ".", "..", "1234567890123456", "a/b", "a:b", "a b", "a\tb", "a\n", "\u{a0}", "a\u{2003}b", "/", ":", "\u{85}",
        "é234567890123456",
    ])
    func refusesInterfaceNames(_ name: String) throws {
        let error = try failure(variables("ADD", ["CNI_IFNAME": name]), netconf())
        #expect(error.code == .invalidEnvironment)
        #expect(error.message.hasPrefix("invalid CNI_IFNAME: "))
    }

    @Test(arguments: [
        ("1", true), ("TRUE", true), ("true", true), ("True", true), ("0", false), ("", false), ("yes", false),
        ("2", false),
    ])
    func knowsTheOverride(_ value: String, _ expected: Bool) throws {
        let invocation = try parse(variables("ADD", ["CNI_NETNS_OVERRIDE": value]), netconf())
        #expect(invocation.attachment?.allowsOwnNamespace == expected)
    }

    @Test func readsEveryVariable() {
        let environment = PluginEnvironment([
            "CNI_COMMAND": "1", "CNI_CONTAINERID": "2", "CNI_NETNS": "3", "CNI_IFNAME": "4", "CNI_ARGS": "5",
            "CNI_PATH": "6",
            "CNI_NETNS_OVERRIDE": "7",
        ])
        #expect(environment.command == "1" && environment.containerID == "2" && environment.namespacePath == "3")
        #expect(environment.interfaceName == "4" && environment.arguments == "5" && environment.path == "6")
        #expect(environment.namespaceOverride == "7")
        #expect(PluginEnvironment([:]) == PluginEnvironment { _ in "" })
    }
}

@Suite struct PluginArgumentsTests {
    @Test func readsThePod() throws {
        let arguments = try PluginArguments(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u;X=y")
        #expect(arguments.podName == "web-0")
        #expect(arguments.podNamespace == "shop")
        #expect(arguments.podUID == "u")
        #expect(arguments.namesPod)
    }

    @Test(arguments: [
        "", "IgnoreUnknown=1", "K8S_POD_NAME=a", "K8S_POD_NAMESPACE=a", "K8S_POD_NAME=;K8S_POD_NAMESPACE=a",
        "K8S_POD_NAME=a;K8S_POD_NAMESPACE=", "IgnoreUnknown=true;IP=10.0.0.1", "IP=10.0.0.1;IgnoreUnknown=TRUE",
        "IgnoreUnknown=0", "IgnoreUnknown=false",
    ])
    func isNoPod(_ text: String) throws {
        #expect(!(try PluginArguments(text).namesPod))
    }

    @Test(arguments: [
        ";", "a", "a=b=c", "=;", "K8S_POD_NAME", "K8S_POD_NAME=a;", ";K8S_POD_NAME=a", "K8S_POD_NAME=a;;K8S_POD_UID=b",
        "IP=10.0.0.1", "IP=10.0.0.1;IgnoreUnknown=0", "IgnoreUnknown=", "IgnoreUnknown=maybe", "K8S_POD_NAME=a,B=c",
        "k8s_pod_name=a", "\u{212a}8S_POD_NAME=a", "\u{1}=\u{1}",
    ])
    func refuses(_ text: String) throws {
        let error = try #require(throws: CNIError.self) { _ = try PluginArguments(text) }
        #expect(error.code == .invalidEnvironment)
        #expect(error.message.hasPrefix("invalid CNI_ARGS: "))
        #expect("\(error)".utf8.allSatisfy { $0 >= 0x20 })
    }

    @Test func letsTheLastOfTwoCount() throws {
        #expect(try PluginArguments("K8S_POD_NAME=a;K8S_POD_NAME=b").podName == "b")
    }
}
