/// How many prepared sockets a pod's stock holds and should hold. A value: it knows nothing of sockets.
///
/// The kernel only tells how many packets are unread, and packets are taken in order: the sizes of the last packets
/// sent are therefore the sizes of those that are left.
public struct StockGauge: Hashable, Sendable {
    /// The target at first, and after a rest.
    public static let least = 16
    /// The target under the highest demand.
    public static let most = 512
    /// The target from which packets are as large as they can be.
    public static let brisk = 4 * StockMessage.maximumSockets
    /// A stock that is used up in less than so many nanoseconds is filled in larger steps.
    static let briskTime: UInt64 = 1_000_000_000

    /// How many sockets there should be.
    public private(set) var target = least
    /// How many sockets there are.
    public private(set) var sockets = 0
    private var packets: [Int] = []
    /// Sockets taken since then.
    private var turnover = 0
    private var turnoverSince: UInt64 = 0

    /// A stock that is empty yet.
    public init() {}

    /// A stock that another keeper filled. The sizes of its packets are taken to be those of its target; where they
    /// are not, the count is right again when those packets have been taken.
    public init(target: Int, packetsLeft: Int) {
        self.target = max(Self.least, min(Self.most, target))
        let size = min(StockMessage.maximumSockets, self.target / 4)
        packets = Array(repeating: size, count: max(0, min(Self.most, packetsLeft)))
        sockets = size * packets.count
    }

    /// What to send next; `nil` when there is enough. Several packets to a stock, so that one worker of ztunnel does
    /// not take it all, and larger ones when demand is high.
    public var nextPacket: Int? {
        let size = min(StockMessage.maximumSockets, target / 4)
        return sockets + size <= target ? size : nil
    }

    /// Packets that have been sent and not been taken, as far as is known.
    public var packetCount: Int { packets.count }

    /// Whether there are more than there should be.
    public var surplus: Bool { sockets > target }

    /// Counts a packet that has been sent.
    public mutating func sent(_ count: Int) {
        packets.append(count)
        sockets += count
    }

    /// Counts what has been taken. An empty stock doubles the target: demand outran it. So does one that was used up in
    /// less than a second, until packets are as large as they can be: each costs a wake-up of both sides.
    /// - Parameter now: nanoseconds of a clock that never goes back.
    /// - Returns: Whether anything was taken.
    @discardableResult
    public mutating func observe(packetsLeft: Int, at now: UInt64) -> Bool {
        let taken = packets.count - packetsLeft
        guard taken > 0 else { return false }
        let count = packets.prefix(taken).reduce(0, +)
        sockets -= count
        packets.removeFirst(taken)
        if now - turnoverSince >= Self.briskTime {
            turnoverSince = now
            turnover = 0
        }
        turnover += count
        if packets.isEmpty {
            target = min(Self.most, target * 2)
            turnover = 0
        } else if turnover >= target, target < Self.brisk {
            target *= 2
            turnover = 0
        }
        return true
    }

    /// The keeper took the oldest packet back itself, which is no demand.
    public mutating func tookBack() {
        if !packets.isEmpty { sockets -= packets.removeFirst() }
    }

    /// Called after a time without demand: halves the target.
    /// - Returns: Whether there is more to halve.
    public mutating func rest() -> Bool {
        target = max(Self.least, target / 2)
        return target > Self.least
    }
}
