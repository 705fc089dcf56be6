import Testing

@testable import CNI

@Suite struct AttachmentResultTests {
    /// What `bridge` with `host-local` reports, in each version, with fields that only it or its successors know.
    static let results: [SpecVersion: String] = [
        .v0_3_1: """
        {"cniVersion":"0.3.1","interfaces":[{"name":"cni0","mac":"00:11:22:33:44:55"},{"name":"veth1"},\
        {"name":"eth0","mac":"66:77:88:99:aa:bb","sandbox":"/run/netns/pod"}],"ips":[{"version":"4","interface":2,\
        "address":"10.1.2.3/24","gateway":"10.1.2.1"},{"version":"6","interface":2,"address":"fd00::3/64",\
        "gateway":"fd00::1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}
        """,
        .v0_4_0: """
        {"cniVersion":"0.4.0","dns":{"nameservers":["10.0.0.10"]},"ips":[{"address":"10.1.2.3/24","version":"4",\
        "interface":2,"gateway":"10.1.2.1","x-unknown":{"deep":[1,2.50,1e400]}},{"address":"fd00::3/64",\
        "version":"6","interface":2,"gateway":"fd00::1"}],"interfaces":[{"name":"cni0"},{"name":"veth1"},\
        {"name":"eth0","mac":"66:77:88:99:aa:bb","sandbox":"/run/netns/pod"}]}
        """,
        .v1_0_0: """
        {"zzz":"first","cniVersion":"1.0.0","interfaces":[{"name":"cni0"},{"name":"veth1"},{"name":"eth0",\
        "mac":"66:77:88:99:aa:bb","sandbox":"/run/netns/pod"}],"ips":[{"interface":2,"address":"10.1.2.3/24",\
        "gateway":"10.1.2.1"},{"interface":2,"address":"fd00::3/64","gateway":"fd00::1"}],"dns":{},"aaa":null}
        """,
        .v1_1_0: """
        {"cniVersion":"1.1.0","interfaces":[{"name":"cni0","mtu":1500,"socketPath":"","pciID":""},{"name":"veth1"},\
        {"name":"eth0","mac":"66:77:88:99:aa:bb","mtu":1450,"sandbox":"/run/netns/pod"}],"ips":[{"interface":2,\
        "address":"10.1.2.3/24","gateway":"10.1.2.1"},{"interface":2,"address":"fd00::3/64","gateway":"fd00::1"}],\
        "routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1","mtu":1400,"advmss":1360,"priority":1,"table":2,"scope":0}],\
        "dup":1,"dup":2,"dns":{}}
        """,
    ]

    @Test(arguments: SpecVersion.allCases)
    func readsWhatMatters(_ version: SpecVersion) throws {
        let result = try AttachmentResult(try read(try #require(Self.results[version])))
        #expect(result.addresses.map(\.text) == ["10.1.2.3/24", "fd00::3/64"])
        #expect(result.addresses.map { "\($0.address)" } == ["10.1.2.3", "fd00::3"])
        #expect(result.addresses.map(\.prefixLength) == [24, 64])
        #expect(result.addresses.map { $0.gateway?.description } == ["10.1.2.1", "fd00::1"])
        #expect(result.addresses.map(\.interface) == [2, 2])
        #expect(result.interfaces.map(\.name) == ["cni0", "veth1", "eth0"])
        #expect(result.interfaces[2].hardwareAddress == "66:77:88:99:aa:bb")
        #expect(result.interfaces[2].sandbox == "/run/netns/pod")
    }

    @Test(arguments: SpecVersion.allCases)
    func isPassedOnUnchanged(_ version: SpecVersion) throws {
        let result = try #require(Self.results[version])
        let stdin = netconf(version.rawValue, "\"prevResult\":\(result),\"later\":1")
        let attachment = try #require(try parse(variables("ADD"), stdin).attachment)
        #expect(text(attachment.result) == result)
        #expect(attachment.addresses == ["10.1.2.3/24", "fd00::3/64"])
    }

    @Test(arguments: SpecVersion.allCases)
    func isEmptyWithoutOne(_ version: SpecVersion) throws {
        for fields in ["", "\"prevResult\":null"] {
            let attachment = try #require(try parse(variables("ADD"), netconf(version.rawValue, fields)).attachment)
            #expect(text(attachment.result) == #"{"cniVersion":"\#(version.rawValue)","dns":{}}"#)
            #expect(attachment.addresses.isEmpty)
        }
    }

    @Test(arguments: [
        "{}", #"{"ips":null,"interfaces":null}"#, #"{"ips":[],"interfaces":[]}"#, #"{"cniVersion":"1.0.0"}"#,
    ])
    func mayHoldNothing(_ result: String) throws {
        let attachment = try #require(
            try parse(variables("ADD"), netconf("1.0.0", "\"prevResult\":\(result)")).attachment)
        #expect(attachment.addresses.isEmpty)
        #expect(text(attachment.result) == result)
    }

    @Test(arguments: [
        (#"{"ips":{}}"#, CNIError.Code.decoding, "prevResult.ips "), (#"{"ips":"x"}"#, .decoding, "prevResult.ips "),
        (#"{"ips":[1]}"#, .decoding, "prevResult.ips[0] "), (#"{"ips":[null]}"#, .decoding, "prevResult.ips[0] "),
        (#"{"ips":[{"address":1}]}"#, .decoding, "prevResult.ips[0].address "),
        (#"{"ips":[{"address":"10.0.0.1/24","gateway":2}]}"#, .decoding, "prevResult.ips[0].gateway "),
        (#"{"ips":[{"address":"10.0.0.1/24","interface":"0"}]}"#, .decoding, "prevResult.ips[0].interface "),
        (#"{"ips":[{"address":"10.0.0.1/24"},{}]}"#, .invalidConfiguration, "prevResult.ips[1].address "),
        (#"{"ips":[{"address":"10.0.0.1"}]}"#, .invalidConfiguration, "prevResult.ips[0].address "),
        (#"{"ips":[{"address":"10.0.0.1/33"}]}"#, .invalidConfiguration, "prevResult.ips[0].address "),
        (#"{"ips":[{"address":"10.0.0.1/-1"}]}"#, .invalidConfiguration, "prevResult.ips[0].address "),
        (#"{"ips":[{"address":"10.0.0.1/2/4"}]}"#, .invalidConfiguration, "prevResult.ips[0].address "),
        (#"{"ips":[{"address":"fd00::1/129"}]}"#, .invalidConfiguration, "prevResult.ips[0].address "),
        (#"{"ips":[{"address":"web/24"}]}"#, .invalidConfiguration, "prevResult.ips[0].address "),
        (#"{"ips":[{"address":"10.0.0.1/24","gateway":"x"}]}"#, .invalidConfiguration, "prevResult.ips[0].gateway "),
        (#"{"interfaces":1}"#, .decoding, "prevResult.interfaces "),
        (#"{"interfaces":["eth0"]}"#, .decoding, "prevResult.interfaces[0] "),
        (#"{"interfaces":[{"name":1}]}"#, .decoding, "prevResult.interfaces[0].name "),
        (#"{"interfaces":[{},{"sandbox":[]}]}"#, .decoding, "prevResult.interfaces[1].sandbox "),
    ])
    func namesTheFieldAtFault(_ result: String, _ code: CNIError.Code, _ field: String) throws {
        let error = try failure(variables("ADD"), netconf("1.0.0", "\"prevResult\":\(result)"))
        #expect(error.code == code)
        #expect(error.message.hasPrefix("field \(field)"), "\(error)")
    }
}
