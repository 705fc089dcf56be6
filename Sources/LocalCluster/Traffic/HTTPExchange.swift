import Addressing
import Foundation
import LinuxNetwork

/// One HTTP/1.1 request on a connection of its own, as small as the traffic programs and probes need it.
public struct HTTPAnswer: Sendable, Hashable, Codable {
    public var status: Int
    public var body: String
    public var microseconds: Int
}

enum HTTPExchange {
    /// - Throws: When no whole answer came: connect failed, the connection was closed or reset, or time ran out.
    static func get(_ endpoint: Endpoint, path: String, within timeout: Duration) throws -> HTTPAnswer {
        let start = ContinuousClock.now
        let connection = try StreamConnection.connect(to: endpoint, within: timeout)
        let request = "GET \(path) HTTP/1.1\r\nHost: \(endpoint)\r\nConnection: close\r\n\r\n"
        try connection.send(request.utf8, within: timeout)
        let bytes = try connection.rest(limit: 4 << 20, within: timeout)
        let text = String(decoding: bytes, as: UTF8.self)
        let words = text.prefix(while: { !$0.isNewline }).split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw LocalClusterError(
                .traffic,
                bytes.isEmpty ? "\(endpoint) closed the connection without an answer" : "no HTTP: \(text.prefix(60))")
        }
        let body = text.range(of: "\r\n\r\n").map { String(text[$0.upperBound...]) } ?? ""
        return HTTPAnswer(
            status: status, body: body, microseconds: Int((ContinuousClock.now - start) / .microseconds(1)))
    }
}

/// Asks HTTP endpoints inside a namespace, such as a ztunnel's readiness.
public enum HTTPProbe {
    /// - Returns: The status; `nil` when nobody answers yet.
    public static func status(of address: String, port: UInt16, path: String, in namespace: String) throws -> Int? {
        try get(address, port: port, path: path, in: namespace)?.status
    }

    /// - Returns: The answer; `nil` when nobody answers.
    public static func get(
        _ address: String, port: UInt16, path: String, in namespace: String
    ) throws -> HTTPAnswer? {
        guard let address = IPAddress(address) else { return nil }
        return try NetworkNamespace(path: namespace).run { () throws in
            // Refused or silent means the same here: not there yet.
            try? HTTPExchange.get(Endpoint(address, port), path: path, within: .seconds(2))
        }
    }
}
