import Testing

@testable import CNI

/// Mutates good texts by a fixed seed: what fails today fails tomorrow.
@Suite struct FuzzTests {
    private struct Random: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {  // SplitMix64
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
    }

    private static let tokens: [[UInt8]] =
        [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud83d", "\\udc26", "null", "true", "1e9999", "-", "0",
            ".5", "é",
            "\u{feff}", "\n", "\u{0}", "\"cniVersion\":\"1.1.0\"", "\"name\":\"x\"", "\"prevResult\":{\"ips\":[{}]}",
            "10.0.0.1/8",
            "\"agentTimeoutMilliseconds\":", "99999999999999999999", "/", "=", ";",
        ].map { bytes($0) } + [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90]]

    private static func mutate(_ text: [UInt8], _ random: inout Random) -> [UInt8] {
        var text = text
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let place = Int.random(in: 0...text.count, using: &random)
            let end = Int.random(in: place...min(text.count, place + 24), using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0 where place < text.count: text[place] = UInt8.random(in: 0...255, using: &random)
            case 1 where place < text.count: text[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 2: text.removeSubrange(place..<end)
            case 3:
                text.insert(contentsOf: Array(text[place..<end]), at: Int.random(in: 0...text.count, using: &random))
            case 4: text.insert(contentsOf: tokens.randomElement(using: &random) ?? [], at: place)
            default: text.replaceSubrange(place..<end, with: tokens.randomElement(using: &random) ?? [])
            }
        }
        return text
    }

    private static let seeds: [[UInt8]] =
        SpecVersion.allCases.map { version in
            let result = AttachmentResultTests.results[version] ?? "{}"
            return bytes(
                netconf(
                    version.rawValue, "\"agentSocket\":\"/x\",\"exemptNamespaces\":[\"a\"],\"prevResult\":\(result)"))
        } + [
            bytes(#"[1.5e-7,"\ud83d\udc26\n\u0000",{"a":[[],{},null,true,false]},-0,"é€🐦"]"#),
            bytes(netconf("1.1.0", #""cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]"#)),
        ]

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func whatIsReadIsWrittenAndReadAgain(_ seed: UInt64) throws {
        var random = Random(state: seed)
        var accepted = 0
        for _ in 0..<1_500 {
            let text = Self.mutate(Self.seeds.randomElement(using: &random) ?? [], &random)
            do throws(JSONError) {
                let value = try JSONReader.read(text)
                let written = value.bytes
                accepted += 1
                let again = try JSONReader.read(written)
                #expect(again == value, "\(String(decoding: text, as: UTF8.self))")
                #expect(again.bytes == written)
            } catch {
                #expect(error.line >= 1 && error.column >= 1 && error.column <= text.count + 1)
                #expect("\(error)".utf8.count < 600)
            }
        }
        // Mutations that left it JSON are there too, so both ways are walked.
        #expect(accepted > 50)
    }

    @Test(arguments: [5, 6, 7, 8] as [UInt64])
    func everyCallEndsInAnInvocationOrAKnownError(_ seed: UInt64) throws {
        var random = Random(state: seed)
        var accepted = 0
        let known: Set<CNIError.Code> = [.incompatibleVersion, .invalidEnvironment, .decoding, .invalidConfiguration]
        for _ in 0..<1_000 {
            let text = Self.mutate(Self.seeds.randomElement(using: &random) ?? [], &random)
            var environment = variables(Verb.allCases.randomElement(using: &random)?.rawValue ?? "ADD")
            if Int.random(in: 0..<8, using: &random) == 0,
                let name = environment.keys.sorted().randomElement(using: &random)
            {
                let mutated = Self.mutate(bytes(environment[name] ?? ""), &random)
                environment[name] = String(decoding: mutated, as: UTF8.self)
            }
            do throws(CNIError) {
                _ = try PluginInvocation.parse(environment: PluginEnvironment(environment), stdin: text)
                accepted += 1
            } catch {
                #expect(known.contains(error.code))
                #expect(!error.message.isEmpty)
                #expect("\(error)".utf8.count < 1_000)
                // What is printed is read back by the runtime.
                #expect(CNIError(try JSONReader.read(error.json.bytes)) == error)
            }
        }
        #expect(accepted > 50)
    }
}
