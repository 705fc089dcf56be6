import Foundation

/// Names and places of everything that one run makes. Several runs share a machine; the id tells them apart.
public struct RunLayout: Hashable, Sendable {
    /// Lower-case letters and digits, at most 12.
    public let run: String

    public init?(run: String) {
        guard (1...12).contains(run.utf8.count),
            run.utf8.allSatisfy({ (48...57).contains($0) || (97...122).contains($0) })
        else { return nil }
        self.run = run
    }

    /// An id that no other run has, with high probability; making its folder decides.
    public static func random(using generator: inout some RandomNumberGenerator) -> RunLayout {
        let letters = Array("0123456789abcdefghijklmnopqrstuvwxyz")
        let run = String((0..<6).map { _ in letters.randomElement(using: &generator) ?? "0" })
        return RunLayout(unchecked: run)
    }

    private init(unchecked run: String) { self.run = run }

    // MARK: Files

    public static let root = "/run/apus"
    public var folder: String { "\(Self.root)/\(run)" }
    public var record: String { "\(folder)/run.json" }
    /// What a user writes.
    public var source: String { "\(folder)/source" }
    /// What the nodes report.
    public var status: String { "\(folder)/status" }
    public var logs: String { "\(folder)/logs" }
    public var controllerState: String { "\(folder)/controller" }
    public var tokenSocket: String { "\(controllerState)/token.sock" }

    public func node(_ name: String) -> String { "\(folder)/\(name)" }

    // MARK: Namespaces

    public static let namespaceFolder = "/run/netns"
    public static func namespacePath(_ name: String) -> String { "\(namespaceFolder)/\(name)" }

    var namespacePrefix: String { "apus-\(run)-" }
    /// The underlay's bridge lives here and nothing else.
    public var underlay: String { namespacePrefix + "net" }
    public var controller: String { namespacePrefix + "ctl" }
    public func nodeNamespace(_ index: Int) -> String { namespacePrefix + "n\(index)" }
    public func podNamespace(_ namespace: String, _ name: String) -> String {
        namespacePrefix + "p-\(namespace)-\(name)"
    }

    /// The run's namespaces that exist now.
    public func existingNamespaces() -> [String] {
        Files.names(in: Self.namespaceFolder).filter { $0.hasPrefix(namespacePrefix) }
    }

    // MARK: Addresses

    /// The underlay's addresses end in this: 1 is the controller, 10 + i node i.
    static let controllerHost = 1
    static func nodeHost(_ index: Int) -> Int { 10 + index }
    static func underlayV4(_ host: Int) -> String { "10.200.0.\(host)" }
    static func underlayV6(_ host: Int) -> String { "fd00:200::\(String(host, radix: 16))" }
    public static func podsV4(_ index: Int) -> String { "10.201.\(index).0/24" }
    public static func podsV6(_ index: Int) -> String { "fd00:201:\(String(index, radix: 16))::/64" }

    public static let controllerPort = 15012
    public var controllerAddress: String { "\(Self.underlayV4(Self.controllerHost)):\(Self.controllerPort)" }
    public var controllerURL: String { "https://\(controllerAddress)" }
}
