import Handover
import LinuxNetwork

/// A pod as the keeper hands it over: who it is, its listening sockets, and the far end of its stock.
///
/// The descriptors are owned here, shared by all workers, and closed when the last of them lets the pod go.
public final class HandedPod: Sendable {
    public let uid: String
    public let name: String
    public let namespace: String
    public let serviceAccount: String

    let outbound: FileDescriptor
    let inboundPlaintext: FileDescriptor
    let hbone: FileDescriptor
    let stock: SeqpacketSocket
    let sourcePorts = SourcePorts()

    /// Sorts a packet's descriptors by what the message says they are.
    /// - Throws: When the hand-over is incomplete or not offered; the text is sent back to the keeper.
    init(
        uid: String, info: ZDSWorkloadInfo, kinds: [HandoverDescriptor], packet: inout Packet
    ) throws(HandedPodError) {
        self.uid = uid
        name = info.name
        namespace = info.namespace
        serviceAccount = info.serviceAccount
        guard !kinds.isEmpty else {
            throw HandedPodError(
                "pod \(info.namespace)/\(info.name) came with a network namespace instead of its sockets; this ztunnel "
                    + "has no capability to enter one: run apus-sockets on the node")
        }
        guard kinds.count == packet.descriptors.count else {
            throw HandedPodError("\(kinds.count) descriptors are announced, \(packet.descriptors.count) came")
        }
        var outbound: FileDescriptor?
        var inboundPlaintext: FileDescriptor?
        var hbone: FileDescriptor?
        var stock: FileDescriptor?
        for kind in kinds {
            switch kind {
            case .listenerOutbound: outbound = packet.takeDescriptor()
            case .listenerInboundPlaintext: inboundPlaintext = packet.takeDescriptor()
            case .listenerHBONE: hbone = packet.takeDescriptor()
            case .stock: stock = packet.takeDescriptor()
            default: _ = packet.takeDescriptor()  // of a later version: not used, closed
            }
        }
        guard let outbound, let inboundPlaintext, let hbone, let stock else {
            throw HandedPodError("pod \(info.namespace)/\(info.name): a listener or the stock is missing")
        }
        self.outbound = outbound
        self.inboundPlaintext = inboundPlaintext
        self.hbone = hbone
        self.stock = SeqpacketSocket(owning: stock)
    }
}

/// Why a pod cannot be served, in words for the keeper's and the operator's log.
struct HandedPodError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
