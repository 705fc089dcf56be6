import Foundation
import GRPCCore
import IstioAPI
import Mesh
import SwiftProtobuf
import Synchronization

/// A response as it goes over the wire. Messages that are put one behind the other are one message, so everything but
/// the nonce is made once and sent to whoever is concerned.
struct DiscoveryPush: Sendable {
    /// A response without its nonce.
    final class Body: Sendable {
        let bytes: [UInt8]
        let resources: Int
        let removed: Int
        var isEmpty: Bool { resources == 0 && removed == 0 }

        init(typeURL: String, version: String, entries: [ResourceTable.Entry], removed: [String]) {
            var head = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()
            head.typeURL = typeURL
            head.systemVersionInfo = version
            head.removedResources = removed
            var bytes = DiscoveryPush.encoded(head)
            bytes.reserveCapacity(entries.reduce(bytes.count) { $0 + $1.wire.count })
            for entry in entries { bytes += entry.wire }
            self.bytes = bytes
            resources = entries.count
            self.removed = removed.count
        }
    }

    let nonce: String
    let body: Body

    /// The whole message.
    func bytes<Bytes: GRPCContiguousBytes>() -> Bytes {
        var tail = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()
        tail.nonce = nonce
        let end = Self.encoded(tail)
        var result = Bytes(repeating: 0, count: body.bytes.count + end.count)
        result.withUnsafeMutableBytes { target in
            body.bytes.withUnsafeBytes { target.copyMemory(from: $0) }
            end.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(rebasing: target[body.bytes.count...]).copyMemory(from: $0)
            }
        }
        return result
    }

    /// A resource as the field `resources` of a response.
    static func field(_ resource: MeshResource, name: String, version: String, body: Data) throws -> [UInt8] {
        var message = Envoy_Service_Discovery_V3_Resource()
        message.name = name
        message.aliases = resource.aliases
        message.version = version
        message.resource.typeURL = resource.typeURL
        message.resource.value = body
        let bytes: [UInt8] = try message.serializedBytes()
        var field: [UInt8] = [2 << 3 | 2]
        var length = bytes.count
        while length >= 0x80 {
            field.append(UInt8(truncatingIfNeeded: length) | 0x80)
            length >>= 7
        }
        field.append(UInt8(length))
        return field + bytes
    }

    /// Texts alone: there is nothing in them that could not be encoded.
    private static func encoded(_ message: Envoy_Service_Discovery_V3_DeltaDiscoveryResponse) -> [UInt8] {
        do {
            return try message.serializedBytes()
        } catch {
            preconditionFailure("texts can be encoded: \(error)")
        }
    }
}

struct DiscoveryPushSerializer: MessageSerializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: DiscoveryPush) throws -> Bytes { message.bytes() }
}

/// What clients of one generation are sent on the way to the next, by what they have.
final class SharedBodies: Sendable {
    struct Key: Hashable {
        let sent: UInt64
        let told: UInt64?
    }

    /// Those that are kept; clients are rarely spread over more generations.
    static let limit = 32

    private let bodies = Mutex<[Key: DiscoveryPush.Body]>([:])

    /// - Parameter make: Called by one at a time; the others wait and take what it made.
    func body(_ key: Key, _ make: () -> DiscoveryPush.Body?) -> DiscoveryPush.Body? {
        bodies.withLock { bodies in
            if let body = bodies[key] { return body }
            let body = make()
            if bodies.count < Self.limit { bodies[key] = body }
            return body
        }
    }
}
