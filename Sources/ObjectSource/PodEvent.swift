/// Something that happened to a pod and that its owner should know, as Kubernetes' Events have it.
public struct PodEvent: Hashable, Sendable {
    public var pod: PodReference
    /// A word in upper camel case: what tools select by.
    public var reason: String
    public var message: String
    /// Whether somebody should do something, or only know.
    public var isWarning: Bool

    public init(_ pod: PodReference, reason: String, message: String, isWarning: Bool = true) {
        self.pod = pod
        self.reason = reason
        self.message = message
        self.isWarning = isWarning
    }

    /// As the API has it.
    public var type: String { isWarning ? "Warning" : "Normal" }
}

/// Makes events known.
public protocol PodEventRecorder: Sendable {
    /// Records what happened. The same reason for the same pod again takes the place of the one before.
    func record(_ event: PodEvent) async throws(ObjectSourceError)
}
