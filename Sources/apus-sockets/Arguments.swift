/// The command line: `apus-sockets --run-dir DIR --ztunnel-uid N [--takeover [--linger]] [--log-format text|json]`, or
/// `apus-sockets --run-dir DIR --serving`.
struct Arguments: Equatable {
    var runDirectory: String
    var ztunnelUID: UInt32
    var logFormat = Log.Format.text
    /// Whether to take the pods over from a keeper that runs.
    var takesOver = false
    /// Whether to stay, with nothing open, once another keeper has taken over.
    var lingers = false
    /// Whether to say only if the keeper that serves runs in this container.
    var asksServing = false

    struct Failure: Error, Equatable {
        let message: String
    }

    static let usage = """
        usage: apus-sockets --run-dir DIR --ztunnel-uid N [--takeover] [--linger] [--log-format text|json]
               apus-sockets --run-dir DIR --serving

          --run-dir DIR         where keeper.sock and ztunnel/ztunnel.sock are made; must be root's alone to write
          --ztunnel-uid N       the user ztunnel runs as; nobody else may connect to ztunnel.sock
          --takeover            take all pods over from the keeper that serves there, if one does; no connection notices
          --linger              after another keeper has taken over, stay until told to end: under a supervisor that starts
                                again what ends, one that ended would take everything back
          --serving             end with 0 if the keeper that serves in DIR runs in this mount namespace, else with 1
          --log-format FORMAT   text (default) or json, on stderr
          --help                this text

        """

    /// - Returns: `nil` when help is asked for.
    /// - Throws: What is wrong, as a sentence.
    static func parse(_ words: some Sequence<String>) throws(Failure) -> Arguments? {
        var values: [String: String] = [:]
        var flags: Set<String> = []
        var rest = words.makeIterator()
        while let word = rest.next() {
            if word == "--help" || word == "-h" { return nil }
            if ["--takeover", "--linger", "--serving"].contains(word) {
                guard flags.insert(word).inserted else { throw Failure(message: "\(word) is given twice") }
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
        if flags.contains("--serving") {
            guard flags.count == 1, values.count == 1 else {
                throw Failure(message: "--serving goes with --run-dir alone")
            }
            return Arguments(runDirectory: directory, ztunnelUID: 0, asksServing: true)
        }
        guard let number = values["--ztunnel-uid"] else { throw Failure(message: "--ztunnel-uid is missing") }
        guard let uid = UInt32(number), uid != .max else {
            throw Failure(message: "--ztunnel-uid: \(number) is no user id")
        }
        let format = values["--log-format"] ?? Log.Format.text.rawValue
        guard let logFormat = Log.Format(rawValue: format) else {
            throw Failure(message: "--log-format: \(format) is neither text nor json")
        }
        return Arguments(
            runDirectory: directory, ztunnelUID: uid, logFormat: logFormat, takesOver: flags.contains("--takeover"),
            lingers: flags.contains("--linger"))
    }
}
