import Addressing

/// The addresses of a workload. Nearly always one, which then needs no array.
public struct AddressList: Hashable, Sendable {
    private let only: IPAddress?
    /// Empty where ``only`` says it all.
    private let several: [IPAddress]

    /// In canonical form: an IPv4-mapped IPv6 address becomes IPv4.
    public init(_ addresses: [IPAddress] = []) {
        only = addresses.count == 1 ? addresses[0].canonical : nil
        several = addresses.count == 1 ? [] : addresses.map(\.canonical)
    }

    public init(_ address: IPAddress) {
        only = address.canonical
        several = []
    }

    /// The addresses in order without repetitions.
    var unique: AddressList {
        guard only == nil, several.count > 1 else { return self }
        var seen: Set<IPAddress> = []
        return AddressList(several.filter { seen.insert($0).inserted })
    }
}

extension AddressList: RandomAccessCollection {
    public var startIndex: Int { 0 }
    public var endIndex: Int { only == nil ? several.count : 1 }

    public subscript(index: Int) -> IPAddress {
        if let only {
            precondition(index == 0, "a list of one address has none at \(index)")
            return only
        }
        return several[index]
    }
}

extension AddressList: ExpressibleByArrayLiteral {
    public init(arrayLiteral elements: IPAddress...) { self.init(elements) }
}
