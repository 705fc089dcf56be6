import Logging

/// Which messages are logged: a level for all, and others for labels, in the manner of `info,xds=debug,access=off`.
public struct LogFilter: Hashable, Sendable {
    public private(set) var base: Logger.Level
    private var labels: [String: Logger.Level] = [:]

    public init(_ base: Logger.Level) { self.base = base }

    /// Reads a list such as `info,xds=debug`. A bare word is a level, `label=level` one for a label and for those below
    /// it (`xds` covers `xds.client` and `xds::client`). `nil` when a level is unknown.
    public init?(_ text: String, base: Logger.Level = .info) {
        self.init(base)
        guard add(text) else { return nil }
    }

    /// Puts the settings of a list over those there are; `false`, and nothing changed, when a level is unknown.
    public mutating func add(_ text: String) -> Bool {
        var changed = self
        for part in text.split(separator: ",") {
            let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = sides.last.map { String($0).trimmed } ?? ""
            guard let level = Self.level(name) else { return false }
            if sides.count == 1 { changed.base = level } else { changed.labels[String(sides[0]).trimmed] = level }
        }
        self = changed
        return true
    }

    public func level(for label: String) -> Logger.Level {
        guard !labels.isEmpty else { return base }
        var name = Substring(label)
        while true {
            if let level = labels[String(name)] { return level }
            guard let end = name.lastIndex(where: { $0 == "." || $0 == ":" }) else { return base }
            name = name[..<end]
        }
    }

    /// As it could be written.
    public var description: String {
        ([base.filterName] + labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.filterName)" })
            .joined(separator: ",")
    }

    private static func level(_ name: String) -> Logger.Level? {
        switch name.lowercased() {
        case "warn": .warning
        // swift-log has no level above critical; nothing is logged at it in this code.
        case "off": .critical
        case let other: Logger.Level(rawValue: other)
        }
    }
}

extension Logger.Level {
    /// As it stands in a line: the field knows trace, debug, info, warn and error.
    var shortName: String {
        switch self {
        case .trace: "trace"
        case .debug: "debug"
        case .info, .notice: "info"
        case .warning: "warn"
        case .error, .critical: "error"
        }
    }

    /// As a filter says it, see ``LogFilter/init(_:base:)``.
    fileprivate var filterName: String { self == .critical ? "off" : shortName }
}

extension String {
    fileprivate var trimmed: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
