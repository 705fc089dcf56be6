import Addressing
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// Where a captured connection goes, and where next when that fails.
extension OutboundConnection: TunnelRequestDelegate {
    // MARK: Choosing

    /// A route that avoids what was tried already and what has failed for others; of the latter rather one than none.
    private func choose(from workload: Workload) throws(RouteError) -> Route {
        let source = clientAddress ?? Endpoint(.anyV4, 0)
        let destination = destination ?? source
        let state = proxy.services.store.snapshot()
        let tried = Set(attempts.tried)
        let ejected = proxy.services.health.ejected(from: destination, at: proxy.loop.now)
        let route = try state.route(
            from: workload, sourceAddress: source.address, to: destination, resolved: resolved,
            avoiding: ejected.union(tried), random: &proxy.worker.random)
        guard !ejected.isEmpty, !leadsElsewhere(route) else { return route }
        return try state.route(
            from: workload, sourceAddress: source.address, to: destination, resolved: resolved,
            avoiding: tried, random: &proxy.worker.random)
    }

    /// Chooses a way and goes it, after a host name was looked up where the endpoint has nothing else.
    /// - Parameter failure: How the attempt before failed. Where nothing else is left, that is the thing to tell.
    func seek(from workload: Workload, after failure: TunnelFailure? = nil) {
        if let name = unknownDestination { return learn(name, from: workload, after: failure) }
        let route: Route
        do throws(RouteError) {
            route = try choose(from: workload)
        } catch {
            if error.code == .needsResolution, let host = error.hostname, resolved[host] == nil {
                return resolve(host, from: workload, after: failure)
            }
            if let name = error.missing, proxy.services.demand != nil, !asked.contains(name) {
                return learn(name, from: workload, after: failure)
            }
            return give(up: failure, "\(error)")
        }
        if let failure {
            guard leadsElsewhere(route) else { return give(up: failure, "") }
            report?.abandon(ConnectionReport.Failure(text: failure.text, flag: failure.flag))
            report = nil
        }
        go(to: route, from: workload)
    }

    private func resolve(_ host: String, from workload: Workload, after failure: TunnelFailure?) {
        stage = .resolving
        proxy.services.dnsMetrics.countOnDemand(
            TelemetryLabels(
                reporter: .source, source: .init(workload, principal: workload.identity), destination: .init(),
                service: nil, security: .unknown), hostname: host)
        proxy.worker.hosts.resolve(host) { [weak self] result in
            guard let self, case .resolving = stage else { return }
            switch result {
            case .success(let addresses):
                resolved[host] = addresses
                seek(from: workload, after: failure)
            case .failure(let error): give(up: failure, "\(error)")
            }
        }
    }

    /// The destination's name, where the control plane has to be asked for it first.
    private var unknownDestination: MeshName? {
        guard proxy.services.demand != nil, let destination else { return nil }
        let state = proxy.services.store.snapshot()
        let name = MeshName.address(
            NetworkAddress(network: state.settings.network, address: destination.address.canonical))
        return asked.contains(name) || state.knows(name) ? nil : name
    }

    /// Seeks again once the control plane has said what a name stands for. Without its word the connection is refused: it
    /// might belong into a tunnel.
    private func learn(_ name: MeshName, from workload: Workload, after failure: TunnelFailure?) {
        guard let demand = proxy.services.demand else { return }
        stage = .resolving
        asked.insert(name)
        proxy.worker.ask(for: name, of: demand) { [weak self] isAnswered in
            guard let self, case .resolving = stage else { return }
            guard isAnswered else {
                return give(up: failure, "the control plane did not say in time what \(name) is")
            }
            seek(from: workload, after: failure)
        }
    }

    private func give(up failure: TunnelFailure?, _ text: String) {
        guard let failure else { return deny("no_route", text) }
        end(ConnectionReport.Failure(text: failure.text, flag: failure.flag))
    }

    /// Begins an attempt.
    func go(to route: Route, from workload: Workload) {
        self.route = route
        attempts.began()
        let own = Party(workload: workload, principal: workload.identity)
        switch route {
        case .passthrough(let endpoint):
            open(own.anonymous, Party(), endpoint, nil, nil)
            dial(endpoint)
        case .tcp(let endpoint, let upstream):
            let peer = Party(workload: upstream.workload, principal: upstream.workload.identity)
            open(own.anonymous, peer, endpoint, nil, upstream.service)
            dial(endpoint)
        case .hbone(let hbone):
            ask(proxy.routesTaken.facts(hbone, from: workload, proxy.worker.counters))
        case .doubleHBONE(let double):
            ask(double, from: workload)
        }
    }

    func open(
        _ source: Party, _ peer: Party, _ nextHop: Endpoint, _ authority: String?, _ service: Service?
    ) {
        let isTunnel = authority != nil
        let counters = proxy.worker.counters.counters(
            .source, source: source, destination: peer, service: service, security: isTunnel ? .mutualTLS : .unknown)
        let record = AccessRecord(
            kind: .complete, source: .init(clientAddress ?? nextHop, source, mutualTLS: isTunnel),
            destination: .init(nextHop, peer, authority: authority, service: service, mutualTLS: isTunnel),
            direction: .outbound, trace: .init(trace))
        report = ConnectionReport(
            log: proxy.services.accessLog, counters: counters, record: record, startedAt: startedAt)
    }

    // MARK: Plain

    private func dial(_ endpoint: Endpoint) {
        let dial = Dial(loop: proxy.loop, to: endpoint, from: nil) { [weak self] result in self?.dialed(result) }
        stage = .dialing(dial)
        dial.start(from: proxy.stock, timeout: proxy.services.configuration.connectTimeout)
    }

    private func dialed(_ result: Result<DialedSocket, Dial.Failure>) {
        guard case .dialing = stage, let report else { return }
        switch result {
        case .failure(let failure): failed(TunnelFailure(failure))
        case .success(let socket):
            guard let client = client.take() else { return end(nil) }
            succeeded()
            stage = .plain(
                proxy.relay(client, socket, report) { [weak self] in self?.end($0) })
        }
    }

    // MARK: Tunnelled

    private func ask(_ facts: OutboundFacts) {
        let source = clientAddress ?? facts.route.dial
        var record = AccessRecord(
            kind: .complete, source: facts.source, destination: facts.destination, direction: .outbound,
            trace: .init(trace))
        record.source.address = source.description
        report = ConnectionReport(
            log: proxy.services.accessLog, counters: facts.counters, record: record, startedAt: startedAt)
        let request = ConnectRequest(
            authority: facts.authority, baggage: facts.baggage,
            forwarded: Forwarded(source: source, host: facts.route.service?.hostname).headerValue,
            traceparent: trace.headerValue)
        question = (request, facts.key)
        ask()
    }

    func ask() {
        guard let question else { return }
        let waiting = TunnelRequest(question.request, delegate: self)
        stage = .requesting(waiting)
        proxy.tunnels.open(waiting, through: question.key)
    }

    func tunnelRequest(_ request: TunnelRequest, opened stream: HBONEStream) {
        switch stage {
        case .requesting, .tunnelled: stage = .tunnelled(stream)
        default: stream.abort(AbortReason.podGone.error)
        }
    }

    func tunnelRequest(_ request: TunnelRequest, answered reply: ConnectReply) {
        guard case .tunnelled(let stream) = stage else { return }
        // The end of the stream that follows a refusal is nobody's business any more.
        guard reply.isSuccess else {
            request.cancel()
            return failed(TunnelFailure(refusal: reply.status))
        }
        if case .doubleHBONE(let double) = route { return goInside(double, stream, request) }
        guard let report else { return }
        isAnswered = true
        guard let client = client.take() else { return end(nil) }
        succeeded()
        stream.relay(with: client, meter: report)
    }

    func tunnelRequest(_ request: TunnelRequest, ended failure: TunnelFailure?) {
        guard let failure else { return end(nil) }
        // What breaks later was no failure to connect.
        guard !isAnswered else { return end(failure.afterEstablishment) }
        failed(failure)
    }

    // MARK: After an attempt

    /// The uid of the workload that was tried, where another could have been chosen.
    private var endpoint: String? {
        switch route {
        case .passthrough, nil: nil
        case .tcp(_, let upstream): upstream.service == nil ? nil : upstream.workload.uid
        case .hbone(let hbone): hbone.service == nil && !hbone.isWaypoint ? nil : hbone.workload.uid
        case .doubleHBONE(let double): double.gateway.uid
        }
    }

    func succeeded() {
        guard let destination, let endpoint else { return }
        proxy.services.health.succeeded(endpoint, of: destination)
    }

    func failed(_ failure: TunnelFailure) {
        if case .over = stage { return }
        if report == nil, case .doubleHBONE(let double) = route { openReport(atGateway: double) }
        let told = ConnectionReport.Failure(text: failure.text, flag: failure.flag)
        if failure.kind == .endpoint { hold(against: endpoint) }
        switch attempts.next(after: failure.kind, of: endpoint, at: proxy.loop.now) {
        case .giveUp: end(told)
        case .sameEndpoint:
            attempts.began()
            ask()
        case .otherEndpoint:
            guard let workload = proxy.localWorkload(in: proxy.services.store.snapshot()) else { return end(told) }
            seek(from: workload, after: failure)
        }
    }

    private func leadsElsewhere(_ route: Route) -> Bool {
        switch route {
        case .passthrough: false
        case .tcp(_, let upstream): !attempts.tried.contains(upstream.workload.uid)
        case .hbone(let hbone): !attempts.tried.contains(hbone.workload.uid)
        case .doubleHBONE(let double): !attempts.tried.contains(double.gateway.uid)
        }
    }

    private func hold(against endpoint: String?) {
        guard let endpoint, let destination else { return }
        let state = proxy.services.store.snapshot()
        let choices = service.map { state.endpoints(of: $0.key).count } ?? .max
        let pause = proxy.services.health.failed(endpoint, of: destination, among: choices, at: proxy.loop.now)
        guard let pause else { return }
        proxy.services.metrics.ejected.with([]).add(1)
        proxy.services.logger.info(
            "an endpoint is passed over for a while",
            metadata: [
                "endpoint": "\(endpoint)", "destination": "\(destination)", "seconds": "\(pause / 1_000_000_000)",
            ])
    }

    /// The service whose endpoints there were to choose from; `nil` for a waypoint's, which is another's.
    private var service: Service? {
        switch route {
        case .tcp(_, let upstream): upstream.service
        case .hbone(let hbone): hbone.isWaypoint ? nil : hbone.service
        case .passthrough, .doubleHBONE, nil: nil
        }
    }
}

extension Party {
    /// The same workload where no certificate proves it.
    var anonymous: Party { Party(workload: workload, principal: nil, baggage: baggage) }
}
