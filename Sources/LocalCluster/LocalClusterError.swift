/// Why a local cluster could not be built, used or removed.
public struct LocalClusterError: Error, Sendable, CustomStringConvertible {
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String {
            case environment, command, process, attachment, manifest, timeout, traffic, capture
        }
        private let value: Value

        /// Something this machine lacks: root, a program, a kernel feature.
        public static let environment = Code(value: .environment)
        /// A program that was run for set-up failed.
        public static let command = Code(value: .command)
        /// A process of the cluster did not start or ended early.
        public static let process = Code(value: .process)
        /// The CNI chain refused.
        public static let attachment = Code(value: .attachment)
        /// The YAML cannot be used.
        public static let manifest = Code(value: .manifest)
        /// A condition did not come true in time.
        public static let timeout = Code(value: .timeout)
        /// A pod's traffic program did not answer as it should.
        public static let traffic = Code(value: .traffic)
        /// The wire could not be watched, or was watched with gaps.
        public static let capture = Code(value: .capture)

        public var description: String { value.rawValue }
    }

    public let code: Code
    public let message: String
    public let cause: (any Error)?
    public let hint: String?

    public init(_ code: Code, _ message: String, cause: (any Error)? = nil, hint: String? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
        self.hint = hint
    }

    public var description: String {
        var text = message
        if let cause { text += ": \(cause)" }
        if let hint { text += " (\(hint))" }
        return text
    }
}
