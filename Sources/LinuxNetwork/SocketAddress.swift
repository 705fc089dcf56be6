import Addressing
import CLinux
import Glibc

/// The kernel's form of an address and port, and the way there and back.
public enum SocketAddress {
    /// Calls `body` with the endpoint as `sockaddr_in`, or as `sockaddr_in6` (IPv4 in mapped form) for a socket of
    /// family AF_INET6.
    @inlinable
    public static func with<Value>(
        _ endpoint: Endpoint, dualStack: Bool, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value
    ) -> Value {
        if endpoint.address.isV4, !dualStack {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = endpoint.port.bigEndian
            address.sin_addr.s_addr = endpoint.address.v4Value.bigEndian
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        // A dual-stack socket wants `::` where an IPv4 one wants 0.0.0.0.
        let v6 = endpoint.address == .anyV4 ? IPAddress.anyV6 : endpoint.address.mapped
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = endpoint.port.bigEndian
        withUnsafeMutableBytes(of: &address.sin6_addr) { bytes in
            bytes.storeBytes(of: v6.high.bigEndian, toByteOffset: 0, as: UInt64.self)
            bytes.storeBytes(of: v6.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
    }

    /// Reads an AF_INET or AF_INET6 address, IPv4-mapped ones as IPv4; `nil` for other families.
    @inlinable
    public static func endpoint(_ storage: borrowing sockaddr_storage) -> Endpoint? {
        withUnsafePointer(to: storage) { pointer in
            switch CInt(pointer.pointee.ss_family) {
            case AF_INET:
                pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    Endpoint(
                        IPAddress(v4: UInt32(bigEndian: $0.pointee.sin_addr.s_addr)),
                        UInt16(bigEndian: $0.pointee.sin_port))
                }
            case AF_INET6:
                pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address in
                    withUnsafeBytes(of: address.pointee.sin6_addr) { bytes in
                        Endpoint(
                            IPAddress(
                                v6High: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
                                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                            ).canonical, UInt16(bigEndian: address.pointee.sin6_port))
                    }
                }
            default: nil
            }
        }
    }
}
