import LinuxNetwork
import Logging
import Observability

/// Puts the CNI plugin and its place in the runtime's configuration where they belong, and keeps them there: follows the
/// primary plugin's changes, and repairs what others undo, without a fight.
///
/// What it has put in place stays when the agent ends: pods that start while no agent is there are refused, with code
/// 11, and not started outside the mesh.
public final class CNIInstaller: Sendable {
    private let configuration: InstallerConfiguration
    private let step: InstallStep
    private let plugin: PluginFile
    private let metrics: InstallerMetrics
    private let log: Logger
    private let pool: BlockingPool

    /// - Throws: When the thread or the metrics cannot be made.
    public init(
        _ configuration: InstallerConfiguration, metrics: MetricsRegistry = MetricsRegistry(),
        log: Logger = Logger(label: "installer")
    ) throws {
        self.configuration = configuration
        step = InstallStep(configuration)
        plugin = PluginFile(source: configuration.pluginSource, path: configuration.pluginPath)
        self.metrics = try InstallerMetrics(metrics)
        self.log = log
        pool = try BlockingPool(threads: 1)
    }

    /// Runs until the task is cancelled. `inPlace` is called once, when all is in place for the first time.
    public func run(inPlace: @Sendable () -> Void = {}) async {
        let (wakes, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let changes = FolderChanges { continuation.yield() }
        if changes == nil { log.warning("folders cannot be watched; they are looked at on a timer alone") }
        var wake = wakes.makeAsyncIterator()
        var state = State(configuration)
        while !Task.isCancelled {
            // Before the look: what happens after it wakes us. Again each time: a folder may have been replaced.
            changes?.watch(configuration.configurationFolder)
            changes?.watch(configuration.pluginFolder)
            let pause = await work(&state)
            if state.isInPlace, !state.wasInPlace {
                state.wasInPlace = true
                inPlace()
            }
            let timer = Task {
                // Cancelled when a change is first.
                try? await Task.sleep(for: pause)
                continuation.yield()
            }
            let next: Void? = await wake.next()
            timer.cancel()
            // The end of the task ends the stream.
            guard next != nil else { break }
            // Several changes are one look. Ends early with the task; the loop sees it.
            try? await Task.sleep(for: configuration.settle)
        }
        pool.stop()
    }

    private struct State {
        var listBudget: RewriteBudget
        var pluginBudget: RewriteBudget
        var backoff = State.freshBackoff
        var isInPlace = false
        var wasInPlace = false
        /// What was last told, so that it is told once.
        var lastWords = ""

        static var freshBackoff: Backoff { Backoff(shortest: .milliseconds(200), longest: .seconds(30)) }

        init(_ configuration: InstallerConfiguration) {
            listBudget = RewriteBudget(
                limit: configuration.rewriteLimit, window: configuration.window, truce: configuration.truce,
                longestTruce: configuration.longestTruce)
            pluginBudget = listBudget
        }
    }

    /// - Returns: When to look again at the latest.
    private func work(_ state: inout State) async -> Duration {
        do {
            let pause = try await look(&state)
            state.backoff = State.freshBackoff
            return pause
        } catch {
            state.isInPlace = false
            metrics.inPlace.with([]).set(0)
            metrics.failures.with([]).increment()
            tell(&state, .error, "the CNI installation failed; trying again", "\(AgentError(error))")
            return state.backoff.next()
        }
    }

    private func look(_ state: inout State) async throws -> Duration {
        let (configuration, step) = (configuration, step)
        try await pool.run {
            try AtomicFile.makeFolder(configuration.configurationFolder, mode: 0o755)
            try AtomicFile.makeFolder(configuration.pluginFolder, mode: 0o755)
        }
        // The program first: a list that names one that is not there fails every pod.
        if let truce = try await lookAtPlugin(&state) { return truce }
        let finding = try await pool.run { try step.look() }
        switch finding {
        case .inPlace(let name, let warnings):
            place(&state, true)
            if warnings.isEmpty {
                tell(&state, .info, "the CNI plugin is in place", "\(configuration.configurationFolder)/\(name)")
            } else {
                tell(
                    &state, .warning, "the CNI plugin is in place, with a doubt", warnings.joined(separator: "; "))
            }
            return configuration.interval * Double.random(in: 0.9...1.1)
        case .waitingForPrimary:
            place(&state, false)
            tell(
                &state, .warning, "waiting for a CNI configuration to join",
                "\(configuration.configurationFolder) has none yet")
            return configuration.interval * Double.random(in: 0.9...1.1)
        case .unsettled:
            return .milliseconds(200) * Double.random(in: 0.9...1.1)
        case .needs(let change):
            place(&state, false)
            let path = "\(configuration.configurationFolder)/\(change.name)"
            if let truce = mayWrite(&state.listBudget, "list", path) { return truce }
            try await pool.run { try step.make(change) }
            metrics.writes.with(["list"]).increment()
            log.notice("the CNI configuration is written", metadata: ["file": "\(path)", "reason": "\(change.reason)"])
            // Looked at once more: writing is no proof.
            return .zero
        }
    }

    /// - Returns: How long to leave it alone; `nil` when it is in place.
    private func lookAtPlugin(_ state: inout State) async throws -> Duration? {
        let plugin = plugin
        guard try await pool.run({ try !plugin.isInPlace() }) else { return nil }
        place(&state, false)
        if let truce = mayWrite(&state.pluginBudget, "plugin", plugin.path) { return truce }
        try await pool.run { try plugin.install() }
        metrics.writes.with(["plugin"]).increment()
        log.notice("the CNI plugin is written", metadata: ["file": "\(plugin.path)"])
        return nil
    }

    private func place(_ state: inout State, _ isInPlace: Bool) {
        state.isInPlace = isInPlace
        metrics.inPlace.with([]).set(isInPlace ? 1 : 0)
    }

    private func mayWrite(_ budget: inout RewriteBudget, _ file: String, _ path: String) -> Duration? {
        let now = ContinuousClock.now
        switch budget.ask(now) {
        case .go: return nil
        case .wait(let end): return end - now
        case .conflict(let end):
            metrics.conflicts.with([file]).increment()
            log.error(
                "another program keeps undoing the CNI installation; leaving it alone for a while",
                metadata: [
                    "file": "\(path)", "for": "\(end - now)",
                    "hint":
                        "pods that start now are outside the mesh until the agent finds them; with Cilium set cni.exclusive=false",
                ])
            return end - now
        }
    }

    private func tell(_ state: inout State, _ level: Logger.Level, _ message: Logger.Message, _ detail: String) {
        let words = "\(message) \(detail)"
        guard state.lastWords != words else { return }
        state.lastWords = words
        log.log(level: level, message, metadata: ["detail": "\(detail)"])
    }
}
