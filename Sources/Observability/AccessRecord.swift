import Logging

/// One line of the access log: what is known of a connection. Optional fields that are `nil` or empty are left out.
public struct AccessRecord: Sendable {
    public enum Direction: String, Sendable { case inbound, outbound }

    /// What is reported, which fixes level and message.
    public enum Kind: Sendable {
        /// The connection is over; at level error when it has an ``AccessRecord/error``.
        case complete
        /// It has just begun (level debug).
        case opened
        /// It never began: only addresses, direction and error are written (level warn).
        case failed
    }

    public struct Source: Sendable {
        public var address = ""
        /// Pod name, else canonical service.
        public var workload: String?
        public var namespace: String?
        /// As the certificate proves it; mutual TLS only.
        public var identity: String?
        public var cluster: String?

        public init(
            address: String, workload: String? = nil, namespace: String? = nil, identity: String? = nil,
            cluster: String? = nil
        ) {
            self.address = address
            self.workload = workload
            self.namespace = namespace
            self.identity = identity
            self.cluster = cluster
        }
    }

    public struct Destination: Sendable {
        /// The next hop; for HBONE its port 15008.
        public var address = ""
        /// The `:authority` of the HBONE request.
        public var hboneAddress: String?
        /// Host name of the service.
        public var service: String?
        public var workload: String?
        public var namespace: String?
        /// Mutual TLS only.
        public var identity: String?
        public var cluster: String?

        public init(
            address: String, hboneAddress: String? = nil, service: String? = nil, workload: String? = nil,
            namespace: String? = nil, identity: String? = nil, cluster: String? = nil
        ) {
            self.address = address
            self.hboneAddress = hboneAddress
            self.service = service
            self.workload = workload
            self.namespace = namespace
            self.identity = identity
            self.cluster = cluster
        }
    }

    /// What the connection was part of, for instance `outbound{id=<trace id>}`.
    public struct Span: Sendable {
        public var name: String
        public var fields: [(key: String, value: String)]

        public init(_ name: String, fields: [(key: String, value: String)] = []) {
            self.name = name
            self.fields = fields
        }
    }

    /// What ties the lines of both ends together: the `traceparent` that the client's ztunnel sent along.
    public struct Trace: Hashable, Sendable {
        public var high: UInt64
        public var low: UInt64

        public init(high: UInt64, low: UInt64) {
            self.high = high
            self.low = low
        }

        /// 32 hexadecimal digits.
        var text: String {
            var digits: [UInt8] = []
            digits.reserveCapacity(32)
            for half in [high, low] {
                for shift in stride(from: UInt64(60), through: 0, by: -4) {
                    let digit = UInt8(truncatingIfNeeded: half >> shift & 15)
                    digits.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
                }
            }
            return String(decoding: digits, as: UTF8.self)
        }
    }

    public var time: Timestamp
    public var kind: Kind
    public var source: Source
    public var destination: Destination
    public var direction: Direction
    /// What the reporting side sent: for outbound the request, for inbound the response.
    public var bytesSent: UInt64
    public var bytesReceived: UInt64
    public var durationMilliseconds: UInt64
    public var error: String?
    public var spans: [Span]
    /// Written as one more span, named after the direction: `outbound{id=<trace id>}`.
    public var trace: Trace?

    public init(
        time: Timestamp = .now, kind: Kind, source: Source, destination: Destination, direction: Direction,
        bytesSent: UInt64 = 0, bytesReceived: UInt64 = 0, durationMilliseconds: UInt64 = 0, error: String? = nil,
        spans: [Span] = [], trace: Trace? = nil
    ) {
        self.time = time
        self.kind = kind
        self.source = source
        self.destination = destination
        self.direction = direction
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.durationMilliseconds = durationMilliseconds
        self.error = error
        self.spans = spans
        self.trace = trace
    }
}

extension AccessRecord {
    static let scope = "access"

    var allSpans: [Span] {
        guard let trace else { return spans }
        return spans + [Span(direction.rawValue, fields: [("id", trace.text)])]
    }

    var severity: Logger.Level {
        switch kind {
        case .complete: error == nil ? .info : .error
        case .opened: .debug
        case .failed: .warning
        }
    }

    var level: String { severity.shortName }

    var message: String {
        switch kind {
        case .complete: "connection complete"
        case .opened: "connection opened"
        case .failed: "connection failed"
        }
    }

    /// The fields in their fixed order.
    func forEachField(_ body: (String, LogValue) -> Void) {
        func text(_ key: String, _ value: String?) {
            if let value, !value.isEmpty { body(key, .string(value)) }
        }
        func bare(_ key: String, _ value: String?) {
            if let value, !value.isEmpty { body(key, .bare(value)) }
        }
        bare("src.addr", source.address)
        if kind == .failed {
            bare("dst.addr", destination.address)
            body("direction", .string(direction.rawValue))
            text("error", error)
            return
        }
        text("src.workload", source.workload)
        text("src.namespace", source.namespace)
        text("src.identity", source.identity)
        text("src.cluster", source.cluster)
        bare("dst.addr", destination.address)
        bare("dst.hbone_addr", destination.hboneAddress)
        text("dst.service", destination.service)
        text("dst.workload", destination.workload)
        text("dst.namespace", destination.namespace)
        text("dst.identity", destination.identity)
        text("dst.cluster", destination.cluster)
        body("direction", .string(direction.rawValue))
        if kind == .complete {
            body("bytes_sent", .number(bytesSent))
            body("bytes_recv", .number(bytesReceived))
            body("duration", .string(String(durationMilliseconds) + "ms"))
        }
        text("error", error)
    }
}
