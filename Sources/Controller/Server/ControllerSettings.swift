public import Addressing

/// What a controller that reads folders needs to know to start.
public struct ControllerSettings: Sendable {
    /// The folder of objects that a user writes to.
    public var source: String
    /// The folder that the nodes report to.
    public var status: String
    /// The folder of keys: the controller's alone, and not inside the others.
    public var state: String
    /// The folders of other clusters of the mesh, by the clusters' names: in each a folder `source` and, where nodes
    /// report, a folder `status`.
    public var remoteClusters: [String: String] = [:]
    public var serving: Serving

    /// What is served, whom and where.
    public struct Serving: Sendable {
        /// Where discovery and certificates are served; port 0 lets the system choose.
        public var listen: Endpoint
        /// Where metrics and readiness are served; `nil` for nowhere.
        public var admin: Endpoint?
        public var mesh = MeshConfiguration()
        /// More names for the server's certificate.
        public var serverNames: [String] = []

        public init(listen: Endpoint, admin: Endpoint? = nil) {
            self.listen = listen
            self.admin = admin
        }
    }

    public init(source: String, status: String, state: String, listen: Endpoint, admin: Endpoint? = nil) {
        self.source = source
        self.status = status
        self.state = state
        serving = Serving(listen: listen, admin: admin)
    }
}

/// Why a controller cannot start or go on.
public struct ControllerError: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable, Hashable {
        case stateDirectory
        case source
        case authority
        case listen
        case tokenSocket
        case meshConfig
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
        message + (cause.isEmpty ? "" : ": \(cause)") + (hint.isEmpty ? "" : " (\(hint))")
    }
}
