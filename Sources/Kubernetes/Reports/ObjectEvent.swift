public import ObjectSource

/// Something that happened to an object and that its owner should know.
public struct ObjectEvent: Hashable, Sendable {
    /// What it happened to. With a uid, it is never taken for a later object of the same name.
    public struct Subject: Hashable, Sendable {
        public var apiVersion: String
        public var kind: String
        public var name: ObjectName
        /// Empty where it is not known.
        public var uid: String

        public init(apiVersion: String, kind: String, name: ObjectName, uid: String = "") {
            self.apiVersion = apiVersion
            self.kind = kind
            self.name = name
            self.uid = uid
        }
    }

    public var subject: Subject
    /// A word in upper camel case: what tools select by.
    public var reason: String
    public var message: String
    /// Whether somebody should do something, or only know.
    public var isWarning: Bool

    public init(_ subject: Subject, reason: String, message: String, isWarning: Bool = true) {
        self.subject = subject
        self.reason = reason
        self.message = message
        self.isWarning = isWarning
    }

    public init(_ event: PodEvent) {
        self.init(
            Subject(apiVersion: "v1", kind: "Pod", name: event.pod.name, uid: event.pod.uid), reason: event.reason,
            message: event.message, isWarning: event.isWarning)
    }

    /// As the API has it.
    public var type: String { isWarning ? "Warning" : "Normal" }
}
