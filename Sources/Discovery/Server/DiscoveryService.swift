public import GRPCCore
import GRPCProtobuf
import IstioAPI

/// The gRPC face of a ``DiscoveryServer``: the incremental form alone, since only that tells what is gone.
///
/// Registered by hand for the sake of its serializer, which takes responses that are encoded already.
public struct DiscoveryService: RegistrableRPCService {
    private let server: DiscoveryServer
    private let authorize: @Sendable (Metadata) async throws -> String

    /// - Parameter authorize: Says who sends a request with this metadata, or throws the `RPCError` to refuse it
    ///   with. Asked once a stream.
    public init(_ server: DiscoveryServer, authorize: @escaping @Sendable (Metadata) async throws -> String) {
        self.server = server
        self.authorize = authorize
    }

    public func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Method.DeltaAggregatedResources.descriptor,
            deserializer: ProtobufDeserializer<Envoy_Service_Discovery_V3_DeltaDiscoveryRequest>(),
            serializer: DiscoveryPushSerializer()
        ) { [server, authorize] request, _ in
            let name = try await authorize(request.metadata)
            return StreamingServerResponse(metadata: [:]) { writer in
                try await server.serve(request.messages, to: writer, name: name)
                return [:]
            }
        }
        router.registerHandler(
            forMethod: Envoy_Service_Discovery_V3_AggregatedDiscoveryService.Method.StreamAggregatedResources
                .descriptor,
            deserializer: ProtobufDeserializer<Envoy_Service_Discovery_V3_DiscoveryRequest>(),
            serializer: ProtobufSerializer<Envoy_Service_Discovery_V3_DiscoveryResponse>()
        ) { _, _ in
            throw RPCError(code: .unimplemented, message: "use DeltaAggregatedResources")
        }
    }
}
