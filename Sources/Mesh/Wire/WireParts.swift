import Addressing

/// What workloads and services have in common on the wire. Fields are taken in one after the other; one that comes twice
/// counts as protobuf says: the last value, messages merged.
enum WireParts {
    static func port(_ value: UInt32, _ field: String) throws(ConversionError) -> UInt16 {
        guard let port = UInt16(exactly: value) else {
            throw ConversionError(field, "\(value) is no port")
        }
        return port
    }

    static func address(_ bytes: ArraySlice<UInt8>, _ field: String) throws(ConversionError)
        -> IPAddress
    {
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
            var number: UInt64 = 0
            for byte in bytes { number = number << 8 | UInt64(byte) }
            return number
        }
        switch bytes.count {
        case 4: return IPAddress(v4: UInt32(truncatingIfNeeded: number(bytes)))
        case 16: return IPAddress(v6High: number(bytes.prefix(8)), low: number(bytes.dropFirst(8)))
        default: throw ConversionError(field, "\(bytes.count) bytes are no IP address")
        }
    }

    static func unknown(_ field: String, _ value: Int) -> ConversionError {
        ConversionError(field, "the value \(value) is unknown")
    }

    /// Reads an `istio.workload.Extension`, a name and an `Any`, to say whether it is one. What it says is of no interest.
    static func checkExtension(_ cursor: inout WireCursor) throws(ConversionError) {
        try cursor.message { (cursor) throws(ConversionError) in
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length): _ = try cursor.string("extensions")
                case (2, .length):
                    try cursor.message { (cursor) throws(ConversionError) in
                        while let field = try cursor.next() {
                            if field.number == 1, field.kind == .length {
                                _ = try cursor.string("extensions")
                            } else {
                                try cursor.skip(field)
                            }
                        }
                    }
                default: try cursor.skip(field)
                }
            }
        }
    }

    /// `istio.workload.Port`.
    struct Port {
        var service: UInt32 = 0
        var target: UInt32 = 0
        var appProtocol = 0

        mutating func merge(_ cursor: inout WireCursor) throws(ConversionError) {
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .varint): service = try cursor.uint32()
                case (2, .varint): target = try cursor.uint32()
                case (3, .varint): appProtocol = try cursor.enumeration()
                default: try cursor.skip(field)
                }
            }
        }
    }

    /// `istio.workload.NetworkAddress`.
    struct Address {
        var network = ""
        var bytes: Range<Int> = 0..<0
        var length: UInt32?

        mutating func merge(
            _ cursor: inout WireCursor, _ caches: inout WireCaches
        ) throws(ConversionError) {
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length): network = try cursor.shared("network", &caches)
                case (2, .length): bytes = try cursor.range()
                case (3, .varint): length = try cursor.uint32()
                default: try cursor.skip(field)
                }
            }
        }

        func value(_ cursor: WireCursor, _ field: String) throws(ConversionError) -> NetworkAddress {
            NetworkAddress(network: network, address: try WireParts.address(cursor.bytes[bytes], field))
        }
    }

    /// `istio.workload.GatewayAddress`.
    struct Gateway {
        private enum Destination {
            case hostname(namespace: String, hostname: String)
            case address(Address)
        }

        private var destination: Destination?
        private var port: UInt32 = 0

        mutating func merge(
            _ cursor: inout WireCursor, _ caches: inout WireCaches
        ) throws(ConversionError) {
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length):
                    var namespace = ""
                    var hostname = ""
                    if case .hostname(let first, let second)? = destination {
                        (namespace, hostname) = (first, second)
                    }
                    try cursor.message { (cursor) throws(ConversionError) in
                        while let field = try cursor.next() {
                            switch (field.number, field.kind) {
                            case (1, .length): namespace = try cursor.shared("namespace", &caches)
                            case (2, .length): hostname = try cursor.shared("hostname", &caches)
                            default: try cursor.skip(field)
                            }
                        }
                    }
                    destination = .hostname(namespace: namespace, hostname: hostname)
                case (2, .length):
                    var address = Address()
                    if case .address(let first)? = destination { address = first }
                    try cursor.message { (cursor) throws(ConversionError) in
                        try address.merge(&cursor, &caches)
                    }
                    destination = .address(address)
                case (3, .varint): port = try cursor.uint32()
                default: try cursor.skip(field)
                }
            }
        }

        func value(_ cursor: WireCursor, _ field: String) throws(ConversionError) -> GatewayAddress {
            let port = try WireParts.port(port, "\(field).hbone_mtls_port")
            switch destination {
            case .hostname(let namespace, let hostname):
                return GatewayAddress(
                    .hostname(NamespacedHostname(namespace: namespace, hostname: hostname)), port: port)
            case .address(let address):
                return GatewayAddress(.address(try address.value(cursor, "\(field).address")), port: port)
            case nil:
                throw ConversionError(field, "has no destination")
            }
        }
    }
}
