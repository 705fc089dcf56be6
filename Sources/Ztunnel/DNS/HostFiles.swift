import Addressing
import DNS
import Foundation

/// ztunnel's own resolv.conf and hosts file, read again when they are older than ``life``: small files, and a lookup
/// that needs them goes over the network anyway.
final class HostFiles {
    static let life: UInt64 = 10_000_000_000

    private let resolverPath: String
    private let hostsPath: String
    private var readAt: UInt64?
    private var parsed = ResolverConfiguration()
    private var hosts: [DNSName: [IPAddress]] = [:]

    init(resolverPath: String = "/etc/resolv.conf", hostsPath: String = "/etc/hosts") {
        self.resolverPath = resolverPath
        self.hostsPath = hostsPath
    }

    /// Without a search list: whoever asks here gives whole names.
    func configuration(now: UInt64) -> ResolverConfiguration {
        refresh(now)
        return parsed
    }

    func addresses(of name: DNSName, now: UInt64) -> [IPAddress] {
        refresh(now)
        return hosts[name] ?? []
    }

    private func refresh(_ now: UInt64) {
        if let readAt, now < readAt + Self.life { return }
        readAt = now
        parsed = ResolverConfiguration(parsing: Self.text(resolverPath))
        parsed.searchDomains = []
        // As the C library does: this host.
        if parsed.servers.isEmpty { parsed.add(.loopbackV4) }
        hosts = [:]
        for line in Self.text(hostsPath).split(whereSeparator: \.isNewline) {
            let words = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }
            guard let address = words.first.flatMap({ IPAddress($0) }) else { continue }
            for word in words.dropFirst() {
                if let name = DNSName(word) { hosts[name, default: []].append(address.canonical) }
            }
        }
    }

    /// Empty when there is no such file: then nothing is configured.
    private static func text(_ path: String) -> String {
        guard let handle = FileHandle(forReadingAtPath: path) else { return "" }
        // Unreadable is as good as empty; the lookup says that no server is known.
        let data = (try? handle.read(upToCount: ResolverConfiguration.longestFile)) ?? Data()
        return String(decoding: data, as: UTF8.self)
    }
}
