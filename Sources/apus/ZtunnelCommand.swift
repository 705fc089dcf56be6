import ArgumentParser
import Discovery
import Foundation
import Glibc
import Identity
import LinuxNetwork
import Logging
import Mesh
import Observability
import Ztunnel

/// The data path of a node.
struct ZtunnelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ztunnel",
        abstract: "The data path: mutual TLS tunnels, L4 policy and telemetry for the pods the keeper hands over.",
        discussion: """
            Configured by environment variables with Istio's names; docs/reference/ztunnel.md lists them. Runs without \
            any capability: its sockets come from apus-sockets.
            """)

    @Option(help: "User to become when started by root; taken before anything else happens.")
    var uid: UInt32?

    @Option(help: "File for the access log; standard output when not given.")
    var accessLog: String?

    @Flag(help: "Take over from a ztunnel that is running.")
    var successor = false

    func run() async throws {
        var settings: ZtunnelConfiguration
        do {
            settings = try ZtunnelConfiguration(.current())
        } catch {
            throw ValidationError("\(error)")
        }
        settings.accessLogFile = accessLog
        settings.isSuccessor = successor
        let format: LogFormat = settings.jsonLogs ? .json : .text
        let logs = try LogOutput.bootstrap(format: format, level: .info, sink: .standardOutput)
        logs.setFilter(settings.logFilter)
        let logger = Logger(label: "ztunnel")
        raiseDescriptorLimit()
        do {
            try await serve(settings, format, logs, logger)
        } catch {
            logger.critical("ztunnel cannot run", metadata: ["error": "\(error)"])
            logs.close()
            throw ExitCode(1)
        }
        logs.close()
    }

    private func serve(
        _ settings: ZtunnelConfiguration, _ format: LogFormat, _ logs: LogOutput, _ logger: Logger
    ) async throws {
        let metrics = MetricsRegistry()
        let readiness = Readiness()
        let store = MeshStore(
            settings: MeshSettings(
                network: settings.network, localNode: settings.nodeName.isEmpty ? nil : settings.nodeName,
                unknownPolicies: .deny,
                trustDomains: TrustDomains(settings.trustDomain, aliases: settings.trustDomainAliases)))
        var certificateSettings = CertificateManager.Settings()
        certificateSettings.validity = settings.certificateLifetime
        let authority = try IstioCertificateClient(settings.certificateService)
        let certificates = CertificateManager(
            client: authority, settings: certificateSettings,
            logger: Logger(label: "certificates"))
        let accessLog = try AccessLog(
            sink: settings.accessLogFile.map { .file($0) } ?? .standardOutput, format: format)
        let proxy = try ZtunnelProxy(
            settings, store: store, certificates: certificates, metrics: metrics, accessLog: accessLog,
            readiness: readiness, logger: logger)
        let (signals, continuation) = AsyncStream.makeStream(of: CInt.self, bufferingPolicy: .bufferingNewest(4))
        let sources = Signals.deliver([SIGTERM, SIGINT, SIGHUP]) { continuation.yield($0) }
        let admin = try await AdminServers.start(
            settings, proxy: proxy, logs: logs, version: Version.text, certificates: { certificates.statuses },
            quit: { continuation.yield(SIGTERM) })
        let counts = try ProcessMetrics(metrics, version: settings.istioVersion ?? Version.text)
        let discovery = try DiscoveryClient(
            settings.discovery, store: store, logger: Logger(label: "xds"), onEvent: { counts.count($0) })
        let synced = readiness.pending("state manager")
        let running = Task {
            await CredentialFiles.wait(for: settings)
            // The first pod's certificate is asked for as soon as the mesh is known.
            await authority.prepare()
            await discovery.run()
        }
        // Who does not know the mesh yet would take a pod of it for a stranger, and send it plain text. Until then the
        // pods' new connections wait in the listeners' queues.
        let serving = Task {
            while !Task.isCancelled {
                guard await discovery.waitUntilReady(timeout: .seconds(60)) else { continue }
                synced.done()
                do { try proxy.start() } catch {
                    logger.critical("pods cannot be taken over", metadata: ["error": "\(error)"])
                    continuation.yield(SIGTERM)
                }
                return
            }
        }
        defer {
            serving.cancel()
            running.cancel()
        }
        logger.info("ztunnel is running", metadata: ["version": "\(Version.text)", "workers": "\(settings.workers)"])
        loop: for await signal in signals {
            guard signal == SIGHUP else { break loop }
            accessLog.reopen()
            logs.reopen()
        }
        logger.info("draining", metadata: ["limit": "\(settings.drainLimit)"])
        await proxy.stop()
        certificates.shutDown()
        await admin.close()
        withExtendedLifetime(sources) {}
    }
}
