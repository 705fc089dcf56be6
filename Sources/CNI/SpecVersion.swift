/// The versions of the CNI specification that are spoken here.
public enum SpecVersion: String, Sendable, Hashable, CaseIterable, Comparable {
    case v0_3_1 = "0.3.1"
    case v0_4_0 = "0.4.0"
    case v1_0_0 = "1.0.0"
    case v1_1_0 = "1.1.0"

    public static let newest = SpecVersion.v1_1_0

    /// What a configuration without `cniVersion` means, by the specification; it cannot chain and is not spoken here.
    static let unstated = "0.1.0"

    /// CHECK exists from 0.4.0 on, as does the `prevResult` of DEL.
    public var hasCheck: Bool { self >= .v0_4_0 }
    /// STATUS and GC exist from 1.1.0 on.
    public var hasStatusAndGarbageCollection: Bool { self >= .v1_1_0 }

    public static func < (left: SpecVersion, right: SpecVersion) -> Bool { left.rank < right.rank }

    private var rank: Int {
        switch self {
        case .v0_3_1: 0
        case .v0_4_0: 1
        case .v1_0_0: 2
        case .v1_1_0: 3
        }
    }

    /// `"0.3.1" "0.4.0" ...`, for messages.
    static var list: String { allCases.map { "\"\($0.rawValue)\"" }.joined(separator: " ") }

    /// Whether a text has the form of a version (`1.2.3`, at most 32 bytes) and may be echoed as one.
    static func isWellFormed(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return text.utf8.count <= 32 && parts.count == 3
            && parts.allSatisfy {
                !$0.isEmpty && $0.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            }
    }
}

/// The answer to VERSION.
public struct VersionReport: Sendable, Hashable {
    /// The version the question was asked in, echoed.
    public var asked: String

    public init(asked: String = SpecVersion.newest.rawValue) { self.asked = asked }

    public var json: JSONValue {
        .object(
            JSONObject([
                .init("cniVersion", .string(asked)),
                .init("supportedVersions", .array(SpecVersion.allCases.map { .string($0.rawValue) })),
            ]))
    }
}
