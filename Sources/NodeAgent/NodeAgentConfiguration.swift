import Addressing
import ObjectSource

/// What the agent is told at its start.
public struct NodeAgentConfiguration: Sendable {
    public var nodeName: String
    /// Holds cni.sock, keeper.sock, `pods/` and `ztunnel/`; root's alone to write.
    public var runDirectory: String
    /// Namespaces that are never enrolled.
    public var exemptNamespaces: Set<String> = ["kube-system", "istio-system"]
    /// How long an ADD waits for the pod's object to appear.
    public var objectWait = Duration.seconds(3)
    /// How often every pod's capture is read back from the kernel.
    public var verifyInterval = Duration.seconds(30)
    /// At un-enrolment: how long peers get to learn that HBONE is over, before capture changes.
    public var peerUpdateTime = Duration.seconds(2)
    /// At un-enrolment: how long captured connections may live on. After that they are cut.
    public var drainDeadline = Duration.seconds(300)
    /// At un-enrolment: how often captured connections are counted.
    public var drainPoll = Duration.milliseconds(250)
    /// How long an enabled pod stays so while no ztunnel serves it: its connections wait, and a report of `pending`
    /// would make its peers talk plain text to it for a mere restart.
    public var pendingGrace = Duration.seconds(30)
    /// How long an agent that is about to end may still keep its successor out.
    public var lockWait = Duration.seconds(5)
    /// How long a running pod that belongs in the mesh may be unknown before it counts as one that slipped through: its
    /// ADD may be on its way.
    public var slipGrace = Duration.seconds(2)
    /// Where the machine's processes are seen.
    public var processFolder = "/proc"
    /// Whether pods' DNS is captured unless their annotation says otherwise.
    public var capturesDNS = false
    /// kubelet's `clusterDNS` and `clusterDomain`, and the resolv.conf it gives pods that use the node's.
    public var clusterDNS: [IPAddress] = []
    public var clusterDomain = "cluster.local"
    public var nodeResolverFile = "/etc/resolv.conf"
    /// Called at un-enrolment when the pod's status has changed; it returns when the peers' view has, or never: it is
    /// cancelled after ``peerUpdateTime``. Without one the whole time is waited.
    public var peersUpdated: (@Sendable (PodReference) async -> Void)?

    public init(nodeName: String, runDirectory: String) {
        self.nodeName = nodeName
        self.runDirectory = runDirectory
    }

    public var cniSocket: String { runDirectory + "/cni.sock" }
    public var keeperSocket: String { runDirectory + "/keeper.sock" }
    var recordsFolder: String { runDirectory + "/pods" }
    var lockFile: String { runDirectory + "/agent.lock" }
}
