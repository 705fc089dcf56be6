/// One object of any of the kinds in use.
public enum KubernetesObject: Hashable, Sendable {
    case namespace(Namespace)
    case pod(Pod)
    case service(Service)
    case serviceAccount(ServiceAccount)
    case endpointSlice(EndpointSlice)
    case authorizationPolicy(AuthorizationPolicy)
    case peerAuthentication(PeerAuthentication)

    public var metadata: ObjectMeta {
        switch self {
        case .namespace(let object): object.metadata
        case .pod(let object): object.metadata
        case .service(let object): object.metadata
        case .serviceAccount(let object): object.metadata
        case .endpointSlice(let object): object.metadata
        case .authorizationPolicy(let object): object.metadata
        case .peerAuthentication(let object): object.metadata
        }
    }

    public var kind: ObjectKind {
        switch self {
        case .namespace: .namespace
        case .pod: .pod
        case .service: .service
        case .serviceAccount: .serviceAccount
        case .endpointSlice: .endpointSlice
        case .authorizationPolicy: .authorizationPolicy
        case .peerAuthentication: .peerAuthentication
        }
    }

    public var key: ObjectKey { ObjectKey(kind: kind, name: metadata.objectName) }
}
