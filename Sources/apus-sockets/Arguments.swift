/// The command line: `apus-sockets --run-dir DIR --ztunnel-uid N [--takeover] [--log-format text|json]`.
struct Arguments: Equatable {
    var runDirectory: String
    var ztunnelUID: UInt32
    var logFormat = Log.Format.text
    /// Whether to take the pods over from a keeper that runs.
    var takesOver = false

    struct Failure: Error, Equatable {
        let message: String
    }

    static let usage = """
        usage: apus-sockets --run-dir DIR --ztunnel-uid N [--takeover] [--log-format text|json]

          --run-dir DIR         where keeper.sock and ztunnel/ztunnel.sock are made; must be root's alone to write
          --ztunnel-uid N       the user ztunnel runs as; nobody else may connect to ztunnel.sock
          --takeover            take all pods over from the keeper that serves there, if one does; no connection notices
          --log-format FORMAT   text (default) or json, on stderr
          --help                this text

        """

    /// - Returns: `nil` when help is asked for.
    /// - Throws: What is wrong, as a sentence.
    static func parse(_ words: some Sequence<String>) throws(Failure) -> Arguments? {
        var values: [String: String] = [:]
        var takesOver = false
        var rest = words.makeIterator()
        while let word = rest.next() {
            if word == "--help" || word == "-h" { return nil }
            if word == "--takeover" {
                guard !takesOver else { throw Failure(message: "--takeover is given twice") }
                takesOver = true
                continue
            }
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard ["--run-dir", "--ztunnel-uid", "--log-format"].contains(parts[0]) else {
                throw Failure(message: "unknown argument \(word)")
            }
            guard let value = parts.count == 2 ? parts[1] : rest.next(), !value.isEmpty else {
                throw Failure(message: "\(parts[0]) needs a value")
            }
            guard values.updateValue(value, forKey: parts[0]) == nil else {
                throw Failure(message: "\(parts[0]) is given twice")
            }
        }
        guard let directory = values["--run-dir"] else { throw Failure(message: "--run-dir is missing") }
        guard directory.hasPrefix("/") else { throw Failure(message: "--run-dir must be an absolute path") }
        guard let number = values["--ztunnel-uid"] else { throw Failure(message: "--ztunnel-uid is missing") }
        guard let uid = UInt32(number), uid != .max else {
            throw Failure(message: "--ztunnel-uid: \(number) is no user id")
        }
        let format = values["--log-format"] ?? Log.Format.text.rawValue
        guard let logFormat = Log.Format(rawValue: format) else {
            throw Failure(message: "--log-format: \(format) is neither text nor json")
        }
        return Arguments(runDirectory: directory, ztunnelUID: uid, logFormat: logFormat, takesOver: takesOver)
    }
}
