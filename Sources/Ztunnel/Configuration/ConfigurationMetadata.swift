import Addressing
import Foundation

extension ZtunnelConfiguration {
    /// Metrics and readiness on every address of both families, unless said otherwise.
    mutating func applyFamilies(_ environment: [String: String], hasIPv6: Bool) {
        guard ipv6Enabled, hasIPv6 else { return }
        if environment["APUS_STATS_ADDRESS"] == nil { statsAddress.address = .anyV6 }
        if environment["APUS_READINESS_ADDRESS"] == nil { readinessAddress.address = .anyV6 }
    }

    /// The variables whose names begin with something.
    mutating func applyPrefixed(_ environment: [String: String]) throws(ConfigurationError) {
        for (name, value) in environment {
            if let key = Self.rest(of: name, after: "ISTIO_META_") {
                metadata[key] = value
            } else if let key = Self.rest(of: name, after: "ISTIO_METAJSON_") {
                guard Self.isJSON(value) else {
                    throw ConfigurationError(variable: name, value: value, expected: "JSON")
                }
                jsonMetadata[key] = value
            } else if let key = Self.rest(of: name, after: "XDS_HEADER_") {
                xdsHeaders[key.lowercased()] = try Self.header(name, key, value)
            } else if let key = Self.rest(of: name, after: "CA_HEADER_") {
                caHeaders[key.lowercased()] = try Self.header(name, key, value)
            }
        }
    }

    /// What the metadata says that counts here too.
    mutating func applyMetadata() throws(ConfigurationError) {
        if let cluster = metadata["CLUSTER_ID"], !cluster.isEmpty { clusterID = cluster }
        if let capture = metadata["DNS_CAPTURE"] { dnsProxyEnabled = capture.lowercased() == "true" }
        if let version = metadata["ISTIO_VERSION"], !version.isEmpty { istioVersion = version }
        guard let address = metadata["DNS_PROXY_ADDR"], !address.isEmpty else { return }
        let port = Self.rest(of: address, after: "localhost:").flatMap { UInt16($0) }
        guard port != nil || Endpoint(address) != nil else {
            throw ConfigurationError(
                variable: "ISTIO_META_DNS_PROXY_ADDR", value: address, expected: "localhost:port or an address and port"
            )
        }
        dnsProxyAddress = address
    }

    private static func rest(of name: String, after prefix: String) -> String? {
        name.hasPrefix(prefix) && name.utf8.count > prefix.utf8.count ? String(name.dropFirst(prefix.count)) : nil
    }

    private static func isJSON(_ text: String) -> Bool {
        do {
            _ = try JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
            return true
        } catch {
            return false
        }
    }

    /// Only what can stand in a header: anything else would break the request it goes with.
    private static func header(_ name: String, _ key: String, _ value: String) throws(ConfigurationError) -> String {
        let isName = key.lowercased().utf8.allSatisfy {
            (97...122).contains($0) || (48...57).contains($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
                || $0 == UInt8(ascii: ".")
        }
        guard isName, !key.lowercased().hasSuffix("-bin"), value.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) else {
            // The value may be a secret.
            throw ConfigurationError(
                variable: name, "\(name): expected a header of letters, digits, - _ . with a value of printable ASCII")
        }
        return value
    }
}
