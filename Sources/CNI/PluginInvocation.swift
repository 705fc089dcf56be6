/// One call of the plugin by a runtime, read and checked: a pure function of environment and stdin.
public enum PluginInvocation: Sendable {
    /// Called by a person, without `CNI_COMMAND`: say what this is.
    case about
    case version(VersionReport)
    case add(Attachment)
    case delete(Attachment)
    case check(Attachment)
    case status(NetworkConfiguration)
    /// `valid` is `nil` when the runtime did not say what is valid, which must not be read as "nothing".
    case collectGarbage(NetworkConfiguration, valid: [AttachmentID]?)

    /// What ADD, DEL and CHECK are about.
    public struct Attachment: Sendable {
        public let id: AttachmentID
        /// Path of the network namespace; with DEL it may be empty or gone.
        public let namespacePath: String
        /// The runtime says that the plugin's own namespace is meant.
        public let allowsOwnNamespace: Bool
        public let arguments: PluginArguments
        public let configuration: NetworkConfiguration
        /// The container's addresses as `prevResult` has them, each with its prefix length.
        public let addresses: [String]
        /// What was wrong and passed over, because a DEL has to succeed.
        public let warnings: [CNIError]

        /// What ADD prints: `prevResult` as it came, or an empty result when there is none.
        public var result: JSONValue {
            configuration.previousResult ?? AttachmentResult.empty(version: configuration.version)
        }
    }

    /// Reads a call.
    /// - Parameters:
    ///   - stdin: all of it, or the first ``JSONReader/maximumSize`` + 1 bytes of more.
    /// - Throws: the error to print, in the version of the configuration as far as that could be read.
    public static func parse(environment: PluginEnvironment, stdin: [UInt8]) throws(CNIError) -> PluginInvocation {
        if environment.command.isEmpty { return .about }
        do throws(CNIError) {
            let verb = try environment.validVerb()
            if verb == .version {
                return .version(statedVersion(stdin).map { VersionReport(asked: $0) } ?? VersionReport())
            }
            return try parse(verb, environment, stdin)
        } catch {
            var error = error
            error.version = statedVersion(stdin) ?? SpecVersion.newest.rawValue
            throw error
        }
    }

    private static func parse(
        _ verb: Verb, _ environment: PluginEnvironment, _ stdin: [UInt8]
    ) throws(CNIError) -> PluginInvocation {
        var configuration = try NetworkConfiguration(document(stdin))
        switch verb {
        case .add:
            return .add(try attachment(environment, configuration, forgiving: false))
        case .delete:
            return .delete(try attachment(environment, configuration, forgiving: true))
        case .check:
            guard configuration.version.hasCheck else { throw tooOld(configuration, for: verb) }
            return .check(try attachment(environment, configuration, forgiving: false))
        case .status:
            guard configuration.version.hasStatusAndGarbageCollection else { throw tooOld(configuration, for: verb) }
            try configuration.readOwnFields()
            return .status(configuration)
        case .collectGarbage:
            guard configuration.version.hasStatusAndGarbageCollection else { throw tooOld(configuration, for: verb) }
            try configuration.readOwnFields()
            return .collectGarbage(configuration, valid: try configuration.validAttachments())
        case .version:
            return .version(VersionReport())
        }
    }

    /// - Parameter forgiving: DEL has to succeed whatever became of the configuration since the ADD.
    private static func attachment(
        _ environment: PluginEnvironment, _ configuration: NetworkConfiguration, forgiving: Bool
    ) throws(CNIError) -> Attachment {
        var configuration = configuration
        var arguments = PluginArguments()
        var addresses: [String] = []
        var warnings: [CNIError] = []
        do throws(CNIError) { try configuration.readOwnFields() } catch {
            guard forgiving else { throw error }
            warnings.append(error)
        }
        do throws(CNIError) { arguments = try PluginArguments(environment.arguments) } catch {
            guard forgiving else { throw error }
            warnings.append(error)
        }
        do throws(CNIError) {
            if let previous = configuration.previousResult {
                addresses = try AttachmentResult(previous).addresses.map(\.text)
            }
        } catch {
            guard forgiving else { throw error }
            warnings.append(error)
        }
        return Attachment(
            id: AttachmentID(containerID: environment.containerID, interfaceName: environment.interfaceName),
            namespacePath: environment.namespacePath, allowsOwnNamespace: environment.allowsOwnNamespace,
            arguments: arguments, configuration: configuration, addresses: addresses, warnings: warnings)
    }

    private static func document(_ stdin: [UInt8]) throws(CNIError) -> JSONObject {
        let json: JSONValue
        do throws(JSONError) { json = try JSONReader.read(stdin) } catch {
            throw CNIError(error, in: "the network configuration on stdin")
        }
        guard case .object(let object) = json else {
            throw CNIError(.decoding, "the network configuration on stdin must be an object, found \(json.kind)")
        }
        return object
    }

    private static func tooOld(_ configuration: NetworkConfiguration, for verb: Verb) -> CNIError {
        CNIError(
            .incompatibleVersion, "config version \(configuration.version.rawValue) does not allow \(verb.rawValue)",
            details: verb == .check ? "CHECK needs 0.4.0" : "\(verb.rawValue) needs 1.1.0")
    }

    /// The `cniVersion` of the text where it can be read and is one, spoken here or not: answers echo it.
    private static func statedVersion(_ stdin: [UInt8]) -> String? {
        // Not JSON: there is no version to echo, and the one error worth telling is thrown elsewhere.
        guard case .object(let object)? = try? JSONReader.read(stdin), case .string(let version) = object["cniVersion"],
            SpecVersion.isWellFormed(version)
        else { return nil }
        return version
    }
}
