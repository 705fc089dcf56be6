/// Takes bytes as they come and gives whole lines.
struct LineSplitter {
    /// Bytes of a line, at most.
    let limit: Int
    private var bytes: [UInt8] = []
    private var start = 0
    /// Up to where no line ends.
    private var searched = 0

    init(limit: Int) { self.limit = limit }

    /// - Throws: `tooLarge` when what is not yet a line is longer than a line may be.
    mutating func add(_ more: some Collection<UInt8>) throws(KubernetesError) {
        if start > 0 {
            bytes.removeFirst(start)
            searched -= start
            start = 0
        }
        bytes += more
        guard bytes.count <= limit || bytes[searched...].contains(0x0a) else {
            throw KubernetesError(.tooLarge, "an event is larger than \(limit) bytes")
        }
    }

    /// The next line that is not empty; `nil` until more comes.
    mutating func next() -> [UInt8]? {
        while let end = bytes[searched...].firstIndex(of: 0x0a) {
            let line = bytes[start..<end]
            start = end + 1
            searched = start
            if !line.isEmpty { return Array(line) }
        }
        searched = bytes.count
        return nil
    }
}
