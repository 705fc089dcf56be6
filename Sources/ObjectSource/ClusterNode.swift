/// A machine of the cluster: its labels say where in the world its pods are.
public struct ClusterNode: Hashable, Sendable {
    public var metadata: ObjectMeta

    public init(metadata: ObjectMeta) { self.metadata = metadata }
}
