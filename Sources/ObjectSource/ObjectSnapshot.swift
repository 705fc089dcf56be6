/// All objects as of one moment.
public struct ObjectSnapshot: Sendable, Equatable {
    /// Grows by one with every change, of objects or of problems.
    public var version: UInt64 = 0
    public var namespaces: [String: Namespace] = [:]
    public var pods = PodTable()
    public var services = ObjectTable<Service>()
    public var serviceAccounts: [ObjectName: ServiceAccount] = [:]
    public var endpointSlices = ObjectTable<EndpointSlice>()
    public var authorizationPolicies: [ObjectName: AuthorizationPolicy] = [:]
    public var peerAuthentications: [ObjectName: PeerAuthentication] = [:]
    public var nodes: [String: ClusterNode] = [:]
    public var gateways: [ObjectName: Gateway] = [:]
    public var gatewayClasses: [String: GatewayClass] = [:]
    public var serviceEntries: [ObjectName: ServiceEntry] = [:]
    public var workloadEntries: [ObjectName: WorkloadEntry] = [:]
    /// What is wrong with the source, in order of file and line. The objects of a wrong file are its last good ones.
    public var problems: [ObjectProblem] = []

    public init() {}

    /// Adds an object, in place of one with the same key.
    public mutating func insert(_ object: KubernetesObject) {
        let name = object.metadata.objectName
        switch object {
        case .namespace(let object): namespaces[name.name] = object
        case .pod(let object): pods[name] = object
        case .service(let object): services[name] = object
        case .serviceAccount(let object): serviceAccounts[name] = object
        case .endpointSlice(let object): endpointSlices[name] = object
        case .authorizationPolicy(let object): authorizationPolicies[name] = object
        case .peerAuthentication(let object): peerAuthentications[name] = object
        case .node(let object): nodes[name.name] = object
        case .gateway(let object): gateways[name] = object
        case .gatewayClass(let object): gatewayClasses[name.name] = object
        case .serviceEntry(let object): serviceEntries[name] = object
        case .workloadEntry(let object): workloadEntries[name] = object
        }
    }

    /// Nothing differs but the version.
    public func hasSameContent(as other: ObjectSnapshot) -> Bool {
        var copy = other
        copy.version = version
        return self == copy
    }

    /// Objects of the kinds that a change of one copies.
    public var copiedCount: Int { objectCount - pods.count - services.count - endpointSlices.count }

    public var objectCount: Int {
        namespaces.count + pods.count + services.count + serviceAccounts.count + endpointSlices.count
            + authorizationPolicies.count + peerAuthentications.count + nodes.count + gateways.count
            + gatewayClasses.count + serviceEntries.count + workloadEntries.count
    }
}
