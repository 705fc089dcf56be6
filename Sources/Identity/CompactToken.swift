import FoundationEssentials

/// The outer form of a JSON Web Token (RFC 7519) in compact serialization, before anything in it is believed.
enum CompactToken {
    struct Header: Decodable {
        var alg: String?
        var kid: String?
        var crit: [String]?
    }

    /// Three parts of base64url and a header that names one of the algorithms and nothing that would have to be understood.
    ///
    /// The library picks the key and with it the algorithm, and does not look at the header's; that is safe, but a
    /// token that says `none` is an attempt and is told so.
    static func header(of token: String, algorithms: Set<String>) throws(IdentityError) -> Header {
        let parts = token.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3 else {
            throw IdentityError(.tokenMalformed, "the token does not have three parts")
        }
        for part in parts {
            for byte in part {
                switch byte {
                case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    continue
                default: throw IdentityError(.tokenMalformed, "the token is not base64url")
                }
            }
        }
        let header: Header
        do {
            guard let data = decode(Substring(parts[0])) else {
                throw IdentityError(.tokenMalformed, "the token's header is not base64url")
            }
            header = try JSONDecoder().decode(Header.self, from: data)
        } catch {
            throw IdentityError(.tokenMalformed, "the token's header is not a JSON object")
        }
        guard let algorithm = header.alg, algorithms.contains(algorithm), header.crit == nil else {
            throw IdentityError(
                .tokenAlgorithm, "the token is not signed with \(algorithms.sorted().joined(separator: " or "))")
        }
        return header
    }

    static func decode(_ part: Substring) -> Data? {
        var text = String(part).replacing("-", with: "+").replacing("_", with: "/")
        text += String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        return Data(base64Encoded: text)
    }
}

/// The token in an `authorization` header, `Bearer <token>` (RFC 6750, section 2.1).
public enum BearerToken {
    /// Longer texts are not looked at.
    public static let maximumSize = 16 << 10

    /// - Throws: ``IdentityError``: `tokenMissing`, `tokenMalformed`.
    public static func token(of authorization: String?) throws(IdentityError) -> String {
        guard let authorization, !authorization.isEmpty else {
            throw IdentityError(.tokenMissing, "the request has no authorization header")
        }
        let scheme = "bearer "
        guard authorization.utf8.count > scheme.utf8.count, authorization.prefix(scheme.count).lowercased() == scheme
        else { throw IdentityError(.tokenMalformed, "the authorization header holds no bearer token") }
        guard authorization.utf8.count <= maximumSize else {
            throw IdentityError(.tokenMalformed, "the token is larger than \(maximumSize) bytes")
        }
        return String(authorization.dropFirst(scheme.count))
    }

    /// When a token says that it ends, for those who keep what was said of it; nobody has checked it here. `nil` when it
    /// does not say.
    public static func claimedExpiry(of token: String) -> Date? {
        struct Claims: Decodable { var exp: Double? }
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, let data = CompactToken.decode(parts[1]),
            // What cannot be read says nothing.
            let claims = try? JSONDecoder().decode(Claims.self, from: data)
        else { return nil }
        return claims.exp.map { Date(timeIntervalSince1970: $0) }
    }
}
