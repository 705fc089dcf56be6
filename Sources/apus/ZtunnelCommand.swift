import ArgumentParser
import Discovery
import Foundation
import Glibc
import Identity
import LinuxNetwork
import Logging
import Mesh
import Observability
import Synchronization
import Ztunnel

/// The data path of a node.
struct ZtunnelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ztunnel",
        abstract: "The data path: mutual TLS tunnels, L4 policy and telemetry for the pods the keeper hands over.",
        discussion: """
            Configured by environment variables with Istio's names; docs/reference/ztunnel.md lists them. Runs without \
            any capability: its sockets come from apus-sockets. With --own-sockets it makes them itself.
            """)

    @Option(help: "User to become when started by root; taken before anything else happens.")
    var uid: UInt32?

    @Option(help: "File for the access log; standard output when not given.")
    var accessLog: String?

    @Flag(help: "Take over from a ztunnel that is running.")
    var successor = false

    @Flag(
        help: """
            Make the pods' sockets in the network namespaces that a control side of plain ZDS sends, as Istio's node \
            agent does. Keeps CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW; without it no capability is kept. With \
            PROXY_MODE=dedicated needed for PACKET_MARK and for clients' addresses alone.
            """)
    var ownSockets = false

    func run() async throws {
        var settings: ZtunnelConfiguration
        do {
            settings = try ZtunnelConfiguration(.current())
        } catch {
            throw ValidationError("\(error)")
        }
        settings.accessLogFile = accessLog
        settings.isSuccessor = successor
        settings.makesOwnSockets = ownSockets
        let format: LogFormat = settings.jsonLogs ? .json : .text
        let logs = try LogOutput.bootstrap(format: format, level: .info, sink: .standardOutput)
        logs.setInitialFilter(settings.logFilter)
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
        if let local = try LocalMesh(settings) {
            store.apply(local.updates)
            logger.info("a local mesh is loaded", metadata: ["resources": "\(local.updates.count)"])
        }
        let counts = try ProcessMetrics(metrics, version: settings.istioVersion ?? Version.text) {
            certificates.statuses.compactMap { $0.chain.first?.notAfter.timeIntervalSince1970 }.min()
        }
        // Without a discovery server the local mesh is all there will be, and it is there already.
        let discovery =
            settings.hasDiscovery
            ? try DiscoveryClient(
                settings.discovery, store: store, logger: Logger(label: "xds"), onEvent: { counts.count($0) }) : nil
        let (signals, continuation) = AsyncStream.makeStream(of: CInt.self, bufferingPolicy: .bufferingNewest(4))
        let breach = Mutex<String?>(nil)
        let proxy = try ZtunnelProxy(
            settings, store: store, demand: settings.xdsOnDemand ? discovery : nil, certificates: certificates,
            metrics: metrics, accessLog: accessLog,
            readiness: readiness, logger: logger
        ) { text in
            breach.withLock { $0 = text }
            continuation.yield(SIGTERM)
        }
        let sources = Signals.deliver([SIGTERM, SIGINT, SIGHUP]) { continuation.yield($0) }
        let admin = try await AdminServers.start(
            settings, proxy: proxy, logs: logs, version: Version.text, certificates: { certificates.statuses },
            quit: { continuation.yield(SIGTERM) })
        proxy.follow(logs)
        try LogMetrics.register(in: metrics, accessLog: { accessLog.dropped }, log: { logs.dropped })
        let synced = readiness.pending("state manager")
        let running = Task {
            await CredentialFiles.wait(for: settings)
            // The first pod's certificate is asked for as soon as the mesh is known.
            await authority.prepare()
            await discovery?.run()
        }
        // Who does not know the mesh yet would take a pod of it for a stranger, and send it plain text. Until then the
        // pods' new connections wait in the listeners' queues.
        let serving = Task {
            while !Task.isCancelled {
                guard await discovery?.waitUntilReady(timeout: .seconds(60)) ?? true else { continue }
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
        if let text = breach.withLock({ $0 }) { throw ControlSideError(description: text) }
        withExtendedLifetime(sources) {}
    }
}

/// The control side of the node broke ZDS, so that nothing it said can be relied on.
private struct ControlSideError: Error, CustomStringConvertible {
    let description: String
}
