import Handover
import LinuxNetwork

/// Copies of a pod's listeners, kept for the keeper that comes after one that was killed: with a copy open a socket, and
/// the queue of connections in it, outlives the process that made it.
final class KeptListeners {
    let namespaceInode: UInt64
    let kinds: [HandoverDescriptor]
    private let descriptors: [Descriptor]

    /// Lets an array hold what cannot be copied.
    private final class Descriptor {
        let value: FileDescriptor
        init(_ value: consuming FileDescriptor) { self.value = value }
    }

    /// - Returns: `nil` when a reply brings none, or not as many as it says.
    init?(_ reply: KeeperReply, _ packet: inout Packet) {
        guard let pod = reply.pods.first, !reply.listeners.isEmpty, reply.listeners.count == packet.descriptors.count
        else { return nil }
        var taken: [Descriptor] = []
        while let descriptor = packet.takeDescriptor() { taken.append(Descriptor(descriptor)) }
        (namespaceInode, kinds, descriptors) = (pod.netnsInode, reply.listeners, taken)
    }

    var raw: [CInt] { descriptors.map { $0.value.raw } }
}
