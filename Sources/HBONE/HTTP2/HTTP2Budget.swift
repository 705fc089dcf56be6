/// How often a peer may do what costs it little and us something, between two refills (RFC 9113 section 10.5).
struct HTTP2Budget {
    /// The kinds of cheap frames that are counted.
    enum Kind {
        /// A stream reset before we answered it: work begun for nothing ("rapid reset").
        case prematureReset
        case ping
        case settings
        /// DATA without bytes and without END_STREAM.
        case emptyData
        /// PRIORITY, and frames of unknown type.
        case ignored
        /// Frames on streams that are over, requests beyond the limit, malformed requests.
        case streamError
    }

    private var prematureResets = 0
    private var pings = 0
    private var settings = 0
    private var emptyData = 0
    private var ignored = 0
    private var streamErrors = 0

    /// Counts one; throws when it is one too many.
    mutating func spend(_ kind: Kind) throws(HTTP2Violation) {
        switch kind {
        case .prematureReset: try Self.count(&prematureResets, 1000, "streams reset before they were answered")
        case .ping: try Self.count(&pings, 1000, "PING frames")
        case .settings: try Self.count(&settings, 100, "SETTINGS frames")
        case .emptyData: try Self.count(&emptyData, 1000, "empty DATA frames")
        case .ignored: try Self.count(&ignored, 1000, "frames without meaning")
        case .streamError: try Self.count(&streamErrors, 1000, "stream errors")
        }
    }

    /// To be called every ten seconds or so.
    mutating func refill() { self = HTTP2Budget() }

    private static func count(
        _ counter: inout Int, _ limit: Int, _ what: StaticString
    ) throws(HTTP2Violation) {
        counter += 1
        guard counter <= limit else { throw HTTP2Violation(HTTP2Code.enhanceYourCalm, "too many \(what)") }
    }
}
