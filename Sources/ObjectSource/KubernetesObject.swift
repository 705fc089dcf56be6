/// One object of any of the kinds in use.
public enum KubernetesObject: Hashable, Sendable {
    case namespace(Namespace)
    case pod(Pod)
    case service(Service)
    case serviceAccount(ServiceAccount)
    case endpointSlice(EndpointSlice)
    case authorizationPolicy(AuthorizationPolicy)
    case peerAuthentication(PeerAuthentication)
    case node(ClusterNode)
    case gateway(Gateway)
    case gatewayClass(GatewayClass)
    case serviceEntry(ServiceEntry)
    case workloadEntry(WorkloadEntry)

    public var metadata: ObjectMeta {
        switch self {
        case .namespace(let object): object.metadata
        case .pod(let object): object.metadata
        case .service(let object): object.metadata
        case .serviceAccount(let object): object.metadata
        case .endpointSlice(let object): object.metadata
        case .authorizationPolicy(let object): object.metadata
        case .peerAuthentication(let object): object.metadata
        case .node(let object): object.metadata
        case .gateway(let object): object.metadata
        case .gatewayClass(let object): object.metadata
        case .serviceEntry(let object): object.metadata
        case .workloadEntry(let object): object.metadata
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
        case .node: .node
        case .gateway: .gateway
        case .gatewayClass: .gatewayClass
        case .serviceEntry: .serviceEntry
        case .workloadEntry: .workloadEntry
        }
    }

    public var key: ObjectKey { ObjectKey(kind: kind, name: metadata.objectName) }
}
