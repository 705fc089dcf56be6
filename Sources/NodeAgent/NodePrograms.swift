/// The two programs that the agent runs beside itself on a single machine (`--spawn`), started as their own command
/// lines want it.
public struct NodePrograms: Hashable, Sendable {
    public var nodeName: String
    public var runDirectory: String
    public var logDirectory: String
    /// Path of `apus-sockets`.
    public var keeperExecutable: String
    /// Path of `apus`.
    public var apusExecutable: String
    /// `https://IP:15012`
    public var controller: String
    public var ztunnelUID: UInt32
    /// `nil`: ztunnel's own default.
    public var workers: Int?
    /// Passed on to the programs, such as PATH or a log level.
    public var environment: [String: String]

    public static let keeperName = "apus-sockets"
    public static let ztunnelName = "ztunnel"

    public init(
        nodeName: String, runDirectory: String, logDirectory: String, keeperExecutable: String,
        apusExecutable: String, controller: String, ztunnelUID: UInt32, workers: Int? = nil,
        environment: [String: String] = [:]
    ) {
        self.nodeName = nodeName
        self.runDirectory = runDirectory
        self.logDirectory = logDirectory
        self.keeperExecutable = keeperExecutable
        self.apusExecutable = apusExecutable
        self.controller = controller
        self.ztunnelUID = ztunnelUID
        self.workers = workers
        self.environment = environment
    }

    public var ztunnelDirectory: String { runDirectory + "/ztunnel" }

    public var keeper: ChildProgram {
        ChildProgram(
            name: Self.keeperName, executable: keeperExecutable,
            // One that runs and that no pid file tells of is taken over from, too.
            arguments: ["--run-dir", runDirectory, "--ztunnel-uid", String(ztunnelUID), "--takeover"],
            environment: environment, logFile: "\(logDirectory)/\(Self.keeperName).log", takesOver: true)
    }

    public var ztunnel: ChildProgram {
        let roots = "\(ztunnelDirectory)/\(TokenRenewer.rootsFile)"
        var variables = environment
        variables["INPOD_UDS"] = "\(ztunnelDirectory)/ztunnel.sock"
        variables["XDS_ADDRESS"] = controller
        variables["CA_ADDRESS"] = controller
        variables["XDS_ROOT_CA"] = roots
        variables["CA_ROOT_CA"] = roots
        variables["AUTH_TOKEN"] = "\(ztunnelDirectory)/\(TokenRenewer.tokenFile)"
        variables["NODE_NAME"] = nodeName
        if let workers { variables["ZTUNNEL_WORKER_THREADS"] = String(workers) }
        return ChildProgram(
            name: Self.ztunnelName, executable: apusExecutable,
            arguments: ["ztunnel", "--access-log", "\(logDirectory)/access.log", "--uid", String(ztunnelUID)],
            environment: variables, logFile: "\(logDirectory)/\(Self.ztunnelName).log")
    }
}
