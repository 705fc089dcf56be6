import Synchronization

/// Ports for connections that a pod's ztunnel makes to the app in a client's name.
///
/// They come from outside of the range from which clients' kernels take theirs (32768 to 60999 unless set otherwise). A
/// connection that was open when the pod was enrolled goes on past ztunnel, from the same client address to the same
/// port of the app: a dial from the port it happens to use would meet the app's end of that connection, and break it.
/// The kernel cannot see this, since of the two ends only the app's is in the pod.
final class SourcePorts: Sendable {
    static let range: ClosedRange<UInt16> = 10240...32767
    /// Left out: from a port of ztunnel's own, redirection takes packets for those of a connection that was translated,
    /// and the app's answer would not be led back.
    static let meshPorts: ClosedRange<UInt16> = 15000...15099
    /// How many dials leave the choice to the kernel once all are taken: as many as are likely to be in TIME_WAIT longer.
    static let pause: UInt32 = 256

    /// In turn, so that a port that was just closed comes again as late as can be.
    private let next: Atomic<UInt32>
    private let paused = Atomic<UInt32>(0)

    /// - Parameter start: where in the range to begin; a new ztunnel begins somewhere else than the one before it.
    init(start: UInt32 = .random(in: 0...UInt32(UInt16.max))) { next = Atomic(start) }

    /// The next port; `nil` when the kernel is to choose one.
    func take() -> UInt16? {
        if paused.load(ordering: .relaxed) > 0 {
            // Two that meet here may both count down past the end; the clamp makes that harmless.
            let left = paused.load(ordering: .relaxed)
            paused.store(left > 0 ? left - 1 : 0, ordering: .relaxed)
            return nil
        }
        let turn = next.wrappingAdd(1, ordering: .relaxed).oldValue
        let port = Self.range.lowerBound + UInt16(turn % UInt32(Self.range.count - Self.meshPorts.count))
        return port < Self.meshPorts.lowerBound ? port : port + UInt16(Self.meshPorts.count)
    }

    /// Says that the port that was taken is in use to the same destination, so that others probably are too.
    func wasInUse() { paused.store(Self.pause, ordering: .relaxed) }
}
