/// Something that happened to a pod and that its owner should know, as Kubernetes' Events have it.
public struct PodEvent: Hashable, Sendable {
    public var pod: PodReference
    /// A word in upper camel case: what tools select by.
    public var reason: String
    public var message: String

    public init(_ pod: PodReference, reason: String, message: String) {
        self.pod = pod
        self.reason = reason
        self.message = message
    }
}

/// Makes events known.
public protocol PodEventRecorder: Sendable {
    /// Records a warning. The same reason for the same pod again takes the place of the one before.
    func record(_ event: PodEvent) async throws(ObjectSourceError)
}
