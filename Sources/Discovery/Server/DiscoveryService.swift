public import GRPCCore
public import IstioAPI

/// The gRPC face of a ``DiscoveryServer``.
public struct DiscoveryService: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.StreamingServiceProtocol {
    private let server: DiscoveryServer
    private let authorize: @Sendable (Metadata) async throws -> String

    /// - Parameter authorize: Says who sends a request with this metadata, or throws the `RPCError` to refuse it
    ///   with. Asked once a stream.
    public init(_ server: DiscoveryServer, authorize: @escaping @Sendable (Metadata) async throws -> String) {
        self.server = server
        self.authorize = authorize
    }

    public func deltaAggregatedResources(
        request: StreamingServerRequest<Envoy_Service_Discovery_V3_DeltaDiscoveryRequest>, context: ServerContext
    ) async throws -> StreamingServerResponse<Envoy_Service_Discovery_V3_DeltaDiscoveryResponse> {
        let name = try await authorize(request.metadata)
        return StreamingServerResponse(metadata: [:]) { writer in
            try await server.serve(request.messages, to: writer, name: name)
            return [:]
        }
    }

    /// State of the world is not offered: only the incremental form tells what is gone.
    public func streamAggregatedResources(
        request: StreamingServerRequest<Envoy_Service_Discovery_V3_DiscoveryRequest>, context: ServerContext
    ) async throws -> StreamingServerResponse<Envoy_Service_Discovery_V3_DiscoveryResponse> {
        throw RPCError(code: .unimplemented, message: "use DeltaAggregatedResources")
    }
}
