import Foundation
import Kubernetes

/// Bodies in Kubernetes's protobuf form, which kubectl's own verbs (`create namespace`, `create role`, `create token`,
/// `auth can-i`) send and nothing else here does. Only their kinds are known, by the published field numbers.
enum ProtobufBody {
    struct Problem: Error, CustomStringConvertible { let description: String }

    indirect enum Field: Sendable {
        case text, bytes, integer, flag
        case message([Int: (name: String, field: Field)])
        case list(Field)
        /// From texts to texts or bytes.
        case map(Field)
        /// Seconds and nanoseconds since 1970.
        case time
    }
    private typealias Message = [Int: (name: String, field: Field)]

    /// What marks the form, before the envelope.
    static let magic = Array("k8s\0".utf8)

    /// - Throws: For other kinds, and for bytes that are none of the form.
    static func json(_ body: [UInt8]) throws -> JSON {
        guard body.starts(with: magic) else { throw Problem(description: "the body does not begin with k8s") }
        // runtime.Unknown: the type, then the object.
        let envelope = try fields(body[magic.count...])
        let type = try fields(envelope.last { $0.number == 1 }?.bytes ?? [])
        func word(_ number: Int) -> String {
            String(decoding: type.last { $0.number == number }?.bytes ?? [], as: UTF8.self)
        }
        let (apiVersion, kind) = (word(1), word(2))
        guard let message = kinds[kind] else {
            throw Problem(description: "\(kind) is not known in protobuf: send JSON, as kubectl create -f does")
        }
        var object = try value(envelope.last { $0.number == 2 }?.bytes ?? [], message)
        object["apiVersion"] = .string(apiVersion)
        object["kind"] = .string(kind)
        return object
    }

    // MARK: Kinds

    private static let metadata: Field = .message([
        1: ("name", .text), 2: ("generateName", .text), 3: ("namespace", .text), 5: ("uid", .text),
        6: ("resourceVersion", .text), 8: ("creationTimestamp", .time), 11: ("labels", .map(.text)),
        12: ("annotations", .map(.text)), 14: ("finalizers", .list(.text)),
    ])
    private static let rules: Field = .list(
        .message([
            1: ("verbs", .list(.text)), 2: ("apiGroups", .list(.text)), 3: ("resources", .list(.text)),
            4: ("resourceNames", .list(.text)), 5: ("nonResourceURLs", .list(.text)),
        ]))
    private static let binding: Message = [
        1: ("metadata", metadata),
        2: (
            "subjects",
            .list(.message([1: ("kind", .text), 2: ("apiGroup", .text), 3: ("name", .text), 4: ("namespace", .text)]))
        ),
        3: ("roleRef", .message([1: ("apiGroup", .text), 2: ("kind", .text), 3: ("name", .text)])),
    ]
    private static let attributes: Field = .message([
        1: ("namespace", .text), 2: ("verb", .text), 3: ("group", .text), 4: ("version", .text), 5: ("resource", .text),
        6: ("subresource", .text), 7: ("name", .text),
    ])

    private static let kinds: [String: Message] = [
        "Namespace": [
            1: ("metadata", metadata), 2: ("spec", .message([1: ("finalizers", .list(.text))])),
        ],
        "ServiceAccount": [1: ("metadata", metadata)],
        "ConfigMap": [
            1: ("metadata", metadata), 2: ("data", .map(.text)), 3: ("binaryData", .map(.bytes)),
            4: ("immutable", .flag),
        ],
        "Secret": [
            1: ("metadata", metadata), 2: ("data", .map(.bytes)), 3: ("type", .text), 4: ("stringData", .map(.text)),
            5: ("immutable", .flag),
        ],
        "Role": [1: ("metadata", metadata), 2: ("rules", rules)],
        "ClusterRole": [1: ("metadata", metadata), 2: ("rules", rules)],
        "RoleBinding": binding, "ClusterRoleBinding": binding,
        "TokenRequest": [
            1: ("metadata", metadata),
            2: (
                "spec",
                .message([
                    1: ("audiences", .list(.text)),
                    3: (
                        "boundObjectRef",
                        .message([1: ("kind", .text), 2: ("apiVersion", .text), 3: ("name", .text), 4: ("uid", .text)])
                    ),
                    4: ("expirationSeconds", .integer),
                ])
            ),
        ],
        "SelfSubjectAccessReview": [
            1: ("metadata", metadata),
            2: (
                "spec",
                .message([
                    1: ("resourceAttributes", attributes),
                    2: ("nonResourceAttributes", .message([1: ("path", .text), 2: ("verb", .text)])),
                ])
            ),
        ],
        "SelfSubjectReview": [1: ("metadata", metadata)],
        "DeleteOptions": [
            1: ("gracePeriodSeconds", .integer),
            2: ("preconditions", .message([1: ("uid", .text), 2: ("resourceVersion", .text)])),
            4: ("propagationPolicy", .text),
        ],
    ]

    // MARK: Bytes

    private struct Raw {
        var number: Int
        var integer: UInt64 = 0
        var bytes: ArraySlice<UInt8> = []
    }

    private static func fields(_ bytes: ArraySlice<UInt8>) throws -> [Raw] {
        var (rest, result) = (bytes, [Raw]())
        func varint() throws -> UInt64 {
            var value: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 64, by: 7) {
                guard let byte = rest.popFirst() else { break }
                value |= UInt64(byte & 0x7f) << shift
                if byte < 0x80 { return value }
            }
            throw Problem(description: "a number has no end")
        }
        while !rest.isEmpty {
            let tag = try varint()
            var raw = Raw(number: Int(truncatingIfNeeded: tag >> 3))
            switch tag & 7 {
            case 0: raw.integer = try varint()
            case 2:
                let length = try varint()
                guard length <= UInt64(rest.count) else {
                    throw Problem(description: "a field is longer than the body")
                }
                raw.bytes = rest.prefix(Int(length))
                rest = rest.dropFirst(Int(length))
            default: throw Problem(description: "a field of a form that Kubernetes does not use")
            }
            result.append(raw)
        }
        return result
    }

    private static func value(_ bytes: ArraySlice<UInt8>, _ message: Message) throws -> JSON {
        var object: [String: JSON] = [:]
        for raw in try fields(bytes) {
            guard let (name, field) = message[raw.number] else { continue }
            switch field {
            case .list(let inner):
                object[name] = .list((object[name]?.list ?? []) + [try single(raw, inner)])
            case .map(let inner):
                let pair = try fields(raw.bytes)
                let key = String(decoding: pair.last { $0.number == 1 }?.bytes ?? [], as: UTF8.self)
                var map = object[name] ?? [:]
                map[key] = try single(pair.last { $0.number == 2 } ?? Raw(number: 2), inner)
                object[name] = map
            default:
                let value = try single(raw, field)
                // What is empty was not said.
                if value != "", value != [:], !value.isNull { object[name] = value }
            }
        }
        return .object(object)
    }

    private static func single(_ raw: Raw, _ field: Field) throws -> JSON {
        switch field {
        case .text: return .string(String(decoding: raw.bytes, as: UTF8.self))
        case .bytes: return .string(Data(raw.bytes).base64EncodedString())
        case .integer: return .integer(Int(truncatingIfNeeded: raw.integer))
        case .flag: return .bool(raw.integer != 0)
        case .message(let message): return try value(raw.bytes, message)
        case .time:
            let seconds = try fields(raw.bytes).last { $0.number == 1 }?.integer ?? 0
            return seconds == 0 ? .null : .string(APITime.text(Date(timeIntervalSince1970: TimeInterval(seconds))))
        case .list, .map: throw Problem(description: "a list of lists")
        }
    }
}
