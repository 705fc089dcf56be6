import Addressing
import ObjectSource

/// What the agent is told at its start.
public struct NodeAgentConfiguration: Sendable {
    public var nodeName: String
    /// Holds cni.sock, keeper.sock, `pods/` and `ztunnel/`; root's alone to write.
    public var runDirectory: String
    /// Namespaces that are never enrolled.
    public var exemptNamespaces: Set<String> = ["kube-system", "istio-system"]
    /// Who is enrolled.
    public var enablementSelectors = EnablementSelector.standard
    /// How long an ADD waits for the pod's object to appear.
    public var objectWait = Duration.seconds(3)
    /// Every namespace has an object, as in a cluster: nothing is decided on a pod whose namespace is not known yet. In a
    /// folder a namespace without labels may be left out.
    public var namespacesAreObjects = false
    /// How often it is shown how the source of objects fares.
    public var sourcePoll = Duration.seconds(2)
    /// How often every pod's capture is read back from the kernel.
    public var verifyInterval = Duration.seconds(30)
    /// How long after a change in a pod's namespace its capture is read back: changes that come together cost one reading.
    public var driftPause = Duration.milliseconds(20)
    /// Whether every pod is to be without network while its capture is not proven, unless it or its namespace says
    /// otherwise (``MeshLabel/failClosed``). Pods that accept mutual TLS alone are in any case.
    public var failsClosed = false
    /// Whether ztunnel's mark alone lets a pod's packets past capture, as Istio has it: for a ztunnel that makes its own
    /// sockets. Otherwise the keeper's seal goes with it, wherever the back end can tell (``RedirectionPlan/requiresSeal``).
    public var trustsMark = false
    /// Whether every pod has a second line behind its capture (``RedirectionPlan/dropsUncaptured``), or only those that
    /// fail closed.
    public var holdsSecondLine = true
    /// How long connections that were open at a pod's enrolment may go past the mesh; `nil` for as long as they live. Those
    /// of pods that take mutual TLS alone are cut at once.
    public var sparedDeadline: Duration?
    /// How often they are counted.
    public var sparedPoll = Duration.seconds(5)
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
    /// The right to work in the run directory, where it was waited for before the agent was made.
    public var turn: AgentTurn?
    /// A process in the node's own namespaces, where the agent has others: `/proc/1` in a container that sees the node's
    /// processes.
    public var nodeProcess: String?
    /// How long a running pod that belongs in the mesh may be unknown before it counts as one that slipped through: its
    /// ADD may be on its way.
    public var slipGrace = Duration.seconds(2)
    /// Where the machine's processes are seen.
    public var processFolder = "/proc"
    /// Whether pods' DNS is captured unless their annotation says otherwise.
    public var capturesDNS = false
    /// What of the node's own traffic reaches pods past policy. The agent must be in the node's own network namespace.
    public var probeExemption = ProbeExemption.off
    /// The cgroup that kubelet makes its sockets in, as `/proc/PID/cgroup` has it; looked for unless given.
    public var kubeletCgroup: String?
    /// Whether probes are led to pods on AWS's branch interfaces where the node has such pods.
    public var servesBranchInterfaces = true
    /// How often is looked whether kubelet has another cgroup.
    public var kubeletInterval = Duration.seconds(1)
    /// kubelet's `clusterDNS` and `clusterDomain`, and the resolv.conf it gives pods that use the node's.
    public var clusterDNS: [IPAddress] = []
    public var clusterDomain = "cluster.local"
    public var nodeResolverFile = "/etc/resolv.conf"
    /// Called at un-enrolment when the pod's status has changed; it returns when the peers' view has, or never: it is
    /// cancelled after ``peerUpdateTime``. Without one the whole time is waited.
    public var peersUpdated: (@Sendable (PodReference) async -> Void)?

    /// Called before each piece of work on kernel or disk. For tests, which let an agent die there.
    var beforeWork: @Sendable () throws -> Void = {}

    public init(nodeName: String, runDirectory: String) {
        self.nodeName = nodeName
        self.runDirectory = runDirectory
    }

    public var cniSocket: String { runDirectory + "/cni.sock" }
    public var keeperSocket: String { runDirectory + "/keeper.sock" }
    var recordsFolder: String { runDirectory + "/pods" }
}
