import Addressing

/// Where an HBONE request ends: the outcome of
/// ``MeshState/inboundTarget(authority:localWorkload:localAddress:illegalPorts:localhostTunnel:)``.
public struct InboundTarget: Hashable, Sendable {
    public let authority: HBONEAuthority
    /// The pod's own address and the port of its application: what policy is asked about.
    public let destination: Endpoint
    /// What to connect to: ``destination``, or its port on a loopback address for a proxy that listens only there.
    public let dial: Endpoint
    /// Connect from the client's own address; not to a loopback address, which another source could not reach.
    public let keepsSourceAddress: Bool
    /// Where the connection was meant to go, to be told with PROXY protocol v2; `nil` when it is not to be told.
    public let proxyProtocolDestination: Endpoint?
    /// The service that was asked for by name.
    public let service: Service?

    public init(
        authority: HBONEAuthority, destination: Endpoint, dial: Endpoint, keepsSourceAddress: Bool,
        proxyProtocolDestination: Endpoint?, service: Service?
    ) {
        self.authority = authority
        self.destination = destination
        self.dial = dial
        self.keepsSourceAddress = keepsSourceAddress
        self.proxyProtocolDestination = proxyProtocolDestination
        self.service = service
    }
}

/// Why an HBONE request is refused, with the status to answer.
public struct InboundRejection: Error, Hashable, Sendable {
    public enum Code: String, Hashable, Sendable {
        /// The method is not CONNECT.
        case badMethod
        case malformedAuthority
        case unknownLocalWorkload
        /// The authority is an address that is not the pod's and that it does not stand in for.
        case destinationMismatch
        case unresolvable
        /// The port is ztunnel's own: the connection would come back to it.
        case illegalPort
        case deniedByPolicy
        /// The pod has as many connections as it may, or they begin too fast.
        case overLimit
        /// The application cannot be connected to.
        case connectFailed
    }

    public let code: Code
    /// For an operator.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The HTTP status of the answer.
    public var status: Int {
        switch code {
        case .badMethod, .malformedAuthority, .destinationMismatch: 400
        case .deniedByPolicy: 401
        case .overLimit: 429
        case .unknownLocalWorkload, .unresolvable, .illegalPort, .connectFailed: 503
        }
    }

    /// The policy's answer as a rejection; `nil` when it lets the connection through.
    public init?(_ verdict: AuthorizationVerdict) {
        guard let denial = verdict.denial else { return nil }
        self.init(.deniedByPolicy, denial)
    }
}

extension InboundRejection: CustomStringConvertible {
    public var description: String { message }
}

extension MeshState {
    /// Validates what an HBONE client asks for and finds what to connect to. It is always the pod itself: the address
    /// asked for is only checked, its port is used.
    ///
    /// - Parameters:
    ///   - authority: the `:authority` of the request.
    ///   - localWorkload: the pod the tunnel has come to.
    ///   - localAddress: the address it has come to.
    ///   - illegalPorts: ports that lead back to ztunnel.
    ///   - localhostTunnel: connect to a proxy that understands the PROXY protocol over loopback.
    public func inboundTarget(
        authority text: String, localWorkload: Workload, localAddress: IPAddress,
        illegalPorts: Set<UInt16> = MeshPorts.illegal, localhostTunnel: Bool = true
    ) -> Result<InboundTarget, InboundRejection> {
        guard let authority = HBONEAuthority(text) else {
            return .failure(
                InboundRejection(.malformedAuthority, "malformed authority: \(printable(text))"))
        }
        let local = localAddress.canonical
        if case .address(let asked) = authority, !mayStandIn(for: asked.address, localWorkload, local) {
            return .failure(InboundRejection(.destinationMismatch, "ip mismatch: \(local) != \(asked.address)"))
        }

        var service: Service?
        let port: UInt16
        switch authority {
        case .address(let asked):
            port = asked.port
        case .host(let host, let servicePort):
            service = self.service(hostname: host, from: localWorkload.namespace)
            let mapped = service.flatMap { found in
                localWorkload.services[found.key]?[servicePort] ?? found.targetPort(of: servicePort)
            }
            guard let mapped, mapped != 0 else {
                let what = service == nil ? "no such service" : "the service has no such port here"
                return .failure(InboundRejection(.unresolvable, "cannot resolve \(authority): \(what)"))
            }
            port = mapped
        }
        guard !illegalPorts.contains(port) else {
            return .failure(
                InboundRejection(.illegalPort, "attempted recursive call to ourselves: \(authority) (port \(port))"))
        }
        return .success(target(authority, service, Endpoint(local, port), localWorkload, localhostTunnel))
    }

    private func target(
        _ authority: HBONEAuthority, _ service: Service?, _ resolved: Endpoint, _ workload: Workload,
        _ localhostTunnel: Bool
    ) -> InboundTarget {
        let tunnel = workload.applicationTunnel
        let destination = Endpoint(resolved.address, tunnel?.port ?? resolved.port)
        let speaksProxy = tunnel?.framing == .proxy
        let overLoopback = speaksProxy && localhostTunnel
        let loopback = resolved.address.isV4 ? IPAddress.loopbackV4 : IPAddress.loopbackV6
        return InboundTarget(
            authority: authority, destination: destination,
            dial: overLoopback ? Endpoint(loopback, destination.port) : destination,
            keepsSourceAddress: !overLoopback,
            proxyProtocolDestination: speaksProxy ? meant(by: authority, service) ?? destination : nil,
            service: service)
    }

    /// For a host name, the service's address that is in our network if there is one, and IPv4 if there is one.
    private func meant(by authority: HBONEAuthority, _ service: Service?) -> Endpoint? {
        switch authority {
        case .address(let endpoint):
            return endpoint
        case .host(_, let port):
            let near = service?.addresses.filter { $0.network == settings.network } ?? []
            let candidates = near.isEmpty ? service?.addresses ?? [] : near
            let chosen = candidates.first { $0.address.isV4 } ?? candidates.first
            return chosen.map { Endpoint($0.address, port) }
        }
    }

    /// Whether a pod may be asked for an address: its own; any, if a proxy of its own decides; or that of a service or
    /// workload whose waypoint it is.
    private func mayStandIn(for asked: IPAddress, _ workload: Workload, _ local: IPAddress) -> Bool {
        if asked == local || workload.applicationTunnel != nil { return true }
        var references: [GatewayAddress] = []
        if let named = self.workload(at: asked) {
            references = [named.waypoint].compactMap { $0 }
        } else if let named = service(at: asked, from: nil) {
            references = [named.waypoint].compactMap { $0 } + named.weightedWaypoints.map(\.destination)
        }
        return references.contains { reference in
            refers(reference, toWorkloadAt: local, or: workload) {
                $0.uid == workload.uid || $0.addresses.contains(local) && $0.network == workload.network
            }
        }
    }

    /// The service a connection to a pod counts for: the one the client says it addressed, if the pod is in it, else
    /// the first of the pod's services with this target port.
    public func inboundService(of workload: Workload, port: UInt16, forwardedHost: String?) -> Service? {
        let candidates = services(of: workload)
        if let forwardedHost, let named = candidates.first(where: { $0.hostname == forwardedHost }) { return named }
        return candidates.first { service in
            let own = workload.services[service.key]?.targets ?? []
            return own.contains(port) || service.ports.contains { $0.targetPort == port }
        }
    }
}

/// At most 100 characters of foreign text, control characters and quotes escaped.
func printable(_ text: String) -> String {
    let prefix = text.unicodeScalars.prefix(100).map { $0.escaped(asASCII: true) }.joined()
    return "\"\(prefix)\(text.unicodeScalars.count > 100 ? "…" : "")\""
}
