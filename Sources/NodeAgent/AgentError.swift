import CNI

/// What went wrong in the agent, for an operator.
public struct AgentError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Hashable, Sendable {
        /// A request that says too little or something wrong.
        case invalidRequest
        /// The descriptor is no network namespace of this pod.
        case invalidNamespace
        /// Something passing: the object, the keeper or a thread is not there yet.
        case tryAgain
        /// The pod is not in the agent's care.
        case unknownPod
        /// The kernel does not hold what it should.
        case drift
        /// The kernel refused.
        case kernel
        /// A file of the agent's cannot be read or written.
        case file
        /// A process cannot be started.
        case process
    }

    public let code: Code
    public let message: String
    public let cause: String
    public let hint: String

    public init(_ code: Code, _ message: String, cause: String = "", hint: String = "") {
        self.code = code
        self.message = message
        self.cause = cause
        self.hint = hint
    }

    public var description: String {
        var text = message
        if !cause.isEmpty { text += ": \(cause)" }
        if !hint.isEmpty { text += " (\(hint))" }
        return text
    }

    /// The code of the CNI specification that the plugin prints.
    var cniCode: CNIError.Code {
        switch code {
        case .invalidRequest: .invalidEnvironment
        case .invalidNamespace: .invalidNamespace
        case .tryAgain: .tryAgainLater
        case .unknownPod: .unknownContainer
        case .drift, .kernel, .file, .process: .other
        }
    }

    var details: String {
        [cause, hint].filter { !$0.isEmpty }.joined(separator: "; ")
    }
}
