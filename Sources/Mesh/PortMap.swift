/// Service ports and the ports an endpoint serves them on, sorted; a few entries, so searched in line.
public struct PortMap: Hashable, Sendable {
    private var entries: [Entry] = []

    private struct Entry: Hashable, Sendable {
        var service: UInt16
        var target: UInt16
    }

    public init() {}

    public init(_ ports: some Sequence<(key: UInt16, value: UInt16)>) {
        for (service, target) in ports { self[service] = target }
    }

    public init(_ ports: [UInt16: UInt16]) {
        self.init(ports.map { (key: $0.key, value: $0.value) })
    }

    public var isEmpty: Bool { entries.isEmpty }
    public var count: Int { entries.count }

    /// The target port of a service port.
    public subscript(service: UInt16) -> UInt16? {
        get { entries.first { $0.service == service }?.target }
        set {
            let index = entries.firstIndex { $0.service >= service } ?? entries.endIndex
            let exists = index < entries.endIndex && entries[index].service == service
            switch (newValue, exists) {
            case (let target?, true): entries[index].target = target
            case (let target?, false): entries.insert(Entry(service: service, target: target), at: index)
            case (nil, true): entries.remove(at: index)
            case (nil, false): break
            }
        }
    }

    /// In the order of the service ports.
    public var pairs: [(service: UInt16, target: UInt16)] { entries.map { ($0.service, $0.target) } }
    public var targets: [UInt16] { entries.map(\.target) }
}

extension PortMap: ExpressibleByDictionaryLiteral {
    public init(dictionaryLiteral elements: (UInt16, UInt16)...) {
        self.init(elements.map { (key: $0.0, value: $0.1) })
    }
}

extension PortMap: CustomStringConvertible {
    public var description: String {
        "[" + entries.map { "\($0.service): \($0.target)" }.joined(separator: ", ") + "]"
    }
}
