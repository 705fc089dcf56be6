import Glibc
import Handover
import LinuxNetwork

/// A pod as it came from the keeper before: every descriptor looked at before it is believed. Letting go of it closes
/// copies and does nothing to the sockets.
final class InheritedPod {
    let description: KeeperPod
    let namespace: SharedNamespace
    let dualStack: Bool
    let listeners: InheritedListeners
    let stock: StockPair
    let datagramStock: StockPair?

    /// - Throws: A sentence that names the descriptor that is not what it should be.
    init(_ kept: KeptPod, _ packet: inout Packet, home: NamespaceID) throws {
        var sorted = try SortedDescriptors(kept.descriptors, &packet)
        description = kept.pod
        namespace = SharedNamespace(try NetworkNamespace(owning: try sorted.takeOne(.namespace)))
        let id = namespace.value.id
        guard id.inode == kept.pod.netnsInode else {
            throw Refusal("the namespace is \(id), not \(kept.pod.netnsInode)")
        }
        guard id != home else { throw Refusal("\(id) is the node's own network namespace, not a pod's") }
        dualStack = try namespace.run { kept.pod.dualStack && Sockets.kernelHasIPv6 }

        stock = try sorted.takePair(.stockSource, .stock, target: kept.stockTarget)
        let hasDatagrams = sorted.has(.stockDatagram) || sorted.has(.stockDatagramSource)
        guard hasDatagrams == kept.pod.dns else { throw Refusal("a stock of UDP sockets without DNS, or none with it") }
        datagramStock =
            hasDatagrams
            ? try sorted.takePair(.stockDatagramSource, .stockDatagram, target: kept.datagramTarget) : nil

        listeners = try InheritedListeners(&sorted, of: kept.pod, in: namespace)
        try sorted.expectEmpty()
    }
}
