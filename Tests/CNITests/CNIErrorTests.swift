import Testing

@testable import CNI

@Suite struct CNIErrorTests {
    @Test func isWrittenAsTheSpecificationSays() {
        let error = CNIError(.tryAgainLater, "no agent", details: "start it", version: "1.0.0")
        #expect(text(error.json) == #"{"cniVersion":"1.0.0","code":11,"msg":"no agent","details":"start it"}"#)
        #expect(text(CNIError(.decoding, "x").json) == #"{"cniVersion":"1.1.0","code":6,"msg":"x"}"#)
    }

    @Test(
        arguments: [
            (CNIError.Code.incompatibleVersion, 1), (.unsupportedField, 2), (.unknownContainer, 3),
            (.invalidEnvironment, 4),
            (.inputOutput, 5), (.decoding, 6), (.invalidConfiguration, 7), (.invalidNamespace, 8), (.tryAgainLater, 11),
            (.notAvailable, 50), (.notAvailableLimited, 51), (.other, 999),
        ] as [(CNIError.Code, UInt32)])
    func hasTheCodesOfTheSpecification(_ code: CNIError.Code, _ number: UInt32) throws {
        #expect(code.rawValue == number)
        let error = CNIError(code, "m", details: "d", version: "0.4.0")
        #expect(CNIError(try JSONReader.read(error.json.bytes)) == error)
    }

    @Test(arguments: ["{}", "[]", "null", #"{"code":"1"}"#, #"{"code":-1}"#, #"{"code":1.5}"#, #"{"code":4294967296}"#])
    func isNotReadFrom(_ json: String) throws {
        #expect(CNIError(try read(json)) == nil)
    }

    @Test func readsWhatOthersWrite() throws {
        let error = try #require(CNIError(try read(#"{"code":100,"msg":"x","details":null,"more":1}"#)))
        #expect(error.code.rawValue == 100 && error.message == "x" && error.details == "")
    }

    @Test func isOneLineInALog() {
        let error = CNIError(.other, "a\nb\u{1b}[31m", details: "c\r\nd\u{7f}")
        #expect("\(error)" == "a b [31m; c  d  (code 999)")
    }
}
