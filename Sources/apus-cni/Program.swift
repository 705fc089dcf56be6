import CNI
import LinuxNetwork

/// One run of the plugin: environment and stdin in, at most one JSON object out on stdout, logs on stderr.
enum Program {
    /// How long the runtime may take to hand over the configuration, and to take the result.
    private static let streamMilliseconds = 5_000
    /// VERSION can be answered without stdin, so it hardly waits for it.
    private static let versionMilliseconds = 100

    /// - Returns: The exit code.
    static func run() -> Int32 {
        StandardStreams.prepare()
        let environment = PluginEnvironment(lookup: environmentVariable)
        do throws(CNIError) {
            let invocation = try PluginInvocation.parse(environment: environment, stdin: input(for: environment))
            guard let output = try Plugin.perform(invocation) else { return 0 }
            return print(output) ? 0 : 1
        } catch {
            Log.line("\(Log.subject(environment)): \(error)")
            _ = print(error.json)
            return 1
        }
    }

    private static func input(for environment: PluginEnvironment) throws(CNIError) -> [UInt8] {
        if environment.command.isEmpty { return [] }
        let isVersion = environment.command == Verb.version.rawValue
        let failure: CNIError
        do throws(SystemError) {
            let (bytes, complete) = try StandardStreams.readInput(
                limit: JSONReader.maximumSize + 1,
                milliseconds: isVersion ? versionMilliseconds : streamMilliseconds)
            if complete || isVersion { return bytes }
            failure = CNIError(
                .inputOutput, "error reading from stdin: it did not end within \(streamMilliseconds) ms",
                details: "the runtime must write the configuration and close stdin")
        } catch {
            if isVersion { return [] }
            failure = CNIError(.inputOutput, "error reading from stdin: \(error)")
        }
        throw failure
    }

    private static func print(_ json: JSONValue) -> Bool {
        var bytes = json.bytes
        bytes.append(UInt8(ascii: "\n"))
        do throws(SystemError) {
            try StandardStreams.writeOutput(bytes, milliseconds: streamMilliseconds)
            return true
        } catch {
            Log.line("cannot print the result: \(error)")
            return false
        }
    }
}

/// The plugin's log: stderr, which runtimes put into their own.
enum Log {
    static func line(_ text: String) { StandardStreams.writeErrorLine("apus-cni: \(text)") }

    static func subject(_ environment: PluginEnvironment) -> String {
        let verb = Verb(rawValue: environment.command)?.rawValue ?? "call"
        // An ID that is not well formed is named, escaped, in the error itself.
        let id = environment.containerID
        let isPlain = id.utf8.count <= 128 && id.utf8.allSatisfy { (0x21...0x7e).contains($0) }
        return id.isEmpty || !isPlain ? verb : "\(verb) of container \(id)"
    }
}
