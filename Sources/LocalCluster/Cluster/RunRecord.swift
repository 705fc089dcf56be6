import Foundation
import Glibc
import LinuxNetwork

/// What a run leaves on disk about itself, so that whoever comes after a crash can end it, and only it.
public struct RunRecord: Codable, Sendable {
    public enum Kind: String, Codable, Sendable { case demo, test, attach }

    public var run: String
    public var kind: Kind
    /// Who built it and takes it down again.
    public var owner: ProcessIdentity
    /// Whether it stays when its owner ends (`apus demo up`).
    public var stays: Bool
    /// Processes that were started for it.
    public var processes: [ProcessIdentity]
    /// Namespaces of others that were attached: what was put into them must go, they themselves stay.
    public var foreignNamespaces: [String]

    init(run: String, kind: Kind, owner: ProcessIdentity, stays: Bool = false) {
        self.run = run
        self.kind = kind
        self.owner = owner
        self.stays = stays
        processes = []
        foreignNamespaces = []
    }

    /// Whether somebody still answers for it.
    public var isOwned: Bool { owner.isAlive }

    func write(_ layout: RunLayout) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try Files.replace(layout.record, with: String(decoding: encoder.encode(self), as: UTF8.self), mode: 0o600)
    }

    static func read(_ layout: RunLayout) -> RunRecord? {
        guard let data = FileManager.default.contents(atPath: layout.record) else { return nil }
        // A record that cannot be read says nothing; the run's namespaces are found by their names then.
        return try? JSONDecoder().decode(RunRecord.self, from: data)
    }

    /// Every run that left a folder or a namespace on this machine.
    public static func all() -> [(layout: RunLayout, record: RunRecord?)] {
        var runs = Set(
            Files.names(in: RunLayout.root).filter {
                FileManager.default.fileExists(atPath: "\(RunLayout.root)/\($0)/run.json")
            })
        for name in Files.names(in: RunLayout.namespaceFolder) where name.hasPrefix("apus-") {
            let parts = name.split(separator: "-", maxSplits: 2)
            if parts.count == 3, Self.isOurs(parts[2]) { runs.insert(String(parts[1])) }
        }
        return runs.sorted().compactMap { RunLayout(run: $0) }.map { ($0, RunRecord.read($0)) }
    }

    /// The endings of names that a run gives; `apus-` alone could be anybody's.
    private static func isOurs(_ ending: Substring) -> Bool {
        ending == "net" || ending == "ctl" || ending.hasPrefix("p-")
            || (ending.hasPrefix("n") && Int(ending.dropFirst()) != nil)
    }
}
