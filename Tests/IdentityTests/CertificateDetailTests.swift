import Testing

@testable import Identity

@Suite("Certificate details")
struct CertificateDetailTests {
    @Test(
        "serial numbers of any size are told in decimal",
        arguments: [
            ([], "0"), ([0], "0"), ([255], "255"), ([1, 0], "256"),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "18446744073709551615"),
            ([1, 0, 0, 0, 0, 0, 0, 0, 0], "18446744073709551616"),
        ] as [([UInt8], String)])
    func decimal(bytes: [UInt8], text: String) {
        #expect(CertificateDetail.decimal(bytes) == text)
    }
}
