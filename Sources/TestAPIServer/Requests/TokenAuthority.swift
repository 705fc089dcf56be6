import Crypto
import Foundation
import Kubernetes

/// Issues and checks tokens of service accounts (JWT, ES256), as a cluster's API server does.
struct TokenAuthority: Sendable {
    static let issuer = "https://kubernetes.default.svc.cluster.local"
    static let minimumSeconds = 600
    static let maximumSeconds = 1 << 32

    private var key = P256.Signing.PrivateKey()
    private var keyID = "1"

    /// What a token says, once its signature and times are good.
    struct Claims: Hashable {
        var audiences: [String]
        var namespace: String
        var account: String
        var accountUID: String
        var pod: (name: String, uid: String)?
        var node: (name: String, uid: String)?
        var id: String

        static func == (left: Self, right: Self) -> Bool { left.id == right.id }
        func hash(into hasher: inout Hasher) { hasher.combine(id) }
    }

    /// Another key: what was signed before is good no longer.
    mutating func rotate() {
        key = P256.Signing.PrivateKey()
        keyID = String((Int(keyID) ?? 0) + 1)
    }

    func issue(_ claims: Claims, now: Date, seconds: Int) -> String {
        var inner: JSON = [
            "namespace": .string(claims.namespace),
            "serviceaccount": ["name": .string(claims.account), "uid": .string(claims.accountUID)],
        ]
        if let pod = claims.pod { inner["pod"] = ["name": .string(pod.name), "uid": .string(pod.uid)] }
        if let node = claims.node { inner["node"] = ["name": .string(node.name), "uid": .string(node.uid)] }
        let issued = Int(now.timeIntervalSince1970)
        let payload: JSON = [
            "iss": .string(Self.issuer), "aud": .list(claims.audiences.map { .string($0) }), "iat": .integer(issued),
            "nbf": .integer(issued), "exp": .integer(issued + seconds), "jti": .string(claims.id),
            "sub": .string("system:serviceaccount:\(claims.namespace):\(claims.account)"), "kubernetes.io": inner,
        ]
        let header: JSON = ["alg": "ES256", "kid": .string(keyID), "typ": "JWT"]
        let text = Self.encode(header.bytes) + "." + Self.encode(payload.bytes)
        // P-256 has signed whatever it was given.
        guard let signature = try? key.signature(for: Data(text.utf8)) else { return "" }
        return text + "." + Self.encode(Array(signature.rawRepresentation))
    }

    /// - Returns: `nil` for a token that is not of this issuer's current key, or not of this time.
    func check(_ token: String, now: Date) -> Claims? {
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, let bytes = Self.decode(parts[2]),
            let signature = try? P256.Signing.ECDSASignature(rawRepresentation: bytes),
            key.publicKey.isValidSignature(signature, for: Data("\(parts[0]).\(parts[1])".utf8)),
            let payload = Self.decode(parts[1]).flatMap({ try? JSON(text: Array($0)) })
        else { return nil }
        let time = Int(now.timeIntervalSince1970)
        guard payload["iss"]?.string == Self.issuer, let expiry = payload["exp"]?.integer, time < expiry,
            time >= payload["nbf"]?.integer ?? 0, let inner = payload["kubernetes.io"]
        else { return nil }
        func pair(_ name: String) -> (name: String, uid: String)? {
            inner[name].map { ($0["name"]?.string ?? "", $0["uid"]?.string ?? "") }
        }
        let account = pair("serviceaccount")
        return Claims(
            audiences: payload["aud"]?.list?.compactMap(\.string) ?? [], namespace: inner["namespace"]?.string ?? "",
            account: account?.name ?? "", accountUID: account?.uid ?? "", pod: pair("pod"), node: pair("node"),
            id: payload["jti"]?.string ?? "")
    }

    /// The public key as a set of one (RFC 7517).
    var keys: JSON {
        let point = Array(key.publicKey.rawRepresentation)
        return [
            "keys": [
                [
                    "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": .string(keyID),
                    "x": .string(Self.encode(Array(point.prefix(32)))),
                    "y": .string(Self.encode(Array(point.dropFirst(32)))),
                ]
            ]
        ]
    }

    static let configuration: JSON = [
        "issuer": .string(issuer), "jwks_uri": "https://kubernetes.default.svc/openid/v1/jwks",
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    ]

    private static func encode(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    private static func decode(_ text: Substring) -> Data? {
        let plain = text.replacing("-", with: "+").replacing("_", with: "/")
        return Data(base64Encoded: plain + String(repeating: "=", count: (4 - plain.count % 4) % 4))
    }
}

// MARK: - In a cluster

extension Cluster {
    /// `POST serviceaccounts/NAME/token`.
    func issueToken(_ body: JSON, _ id: Store.ID, now: Date) throws(APIFailure) -> JSON {
        guard let kind = store.kinds.all["serviceaccounts"], let account = store.get(kind, id) else {
            throw APIFailure(404, "NotFound", "serviceaccounts \"\(id.name)\" not found")
        }
        let spec = body["spec"] ?? [:]
        let seconds = spec["expirationSeconds"]?.integer ?? 3600
        guard (TokenAuthority.minimumSeconds...TokenAuthority.maximumSeconds).contains(seconds) else {
            throw .badRequest(
                "spec.expirationSeconds: Invalid value: \(seconds): may not specify a duration less than 10 minutes")
        }
        let audiences = spec["audiences"]?.list?.compactMap(\.string) ?? []
        var claims = TokenAuthority.Claims(
            audiences: audiences.isEmpty ? [TokenAuthority.issuer] : audiences, namespace: id.namespace,
            account: id.name, accountUID: account.uid, id: makeUID())
        if let bound = spec["boundObjectRef"] {
            guard bound["kind"]?.string == "Pod", let pods = store.kinds.all["pods"],
                let pod = store.get(pods, Store.ID(namespace: id.namespace, name: bound["name"]?.string ?? ""))
            else { throw .badRequest("spec.boundObjectRef: only a Pod that exists can be bound to") }
            guard bound["uid"]?.string.map({ $0 == pod.uid }) ?? true else {
                throw APIFailure(
                    409, "Conflict",
                    "the UID in the bound object reference (\(bound["uid"]?.string ?? "")) does not match the UID in record (\(pod.uid))"
                )
            }
            guard pod.at("spec", "serviceAccountName")?.string == id.name else {
                throw .badRequest(
                    "cannot bind token for serviceaccount \"\(id.name)\" to pod running with different serviceaccount name."
                )
            }
            claims.pod = (pod.name, pod.uid)
            if let name = pod.at("spec", "nodeName")?.string, !name.isEmpty {
                let node = store.kinds.all["nodes"].flatMap { store.get($0, Store.ID(namespace: "", name: name)) }
                claims.node = (name, node?.uid ?? "")
            }
        }
        var answer = body
        answer["kind"] = "TokenRequest"
        answer["apiVersion"] = "authentication.k8s.io/v1"
        answer.set(.list(claims.audiences.map { .string($0) }), at: "spec", "audiences")
        answer.set(.integer(seconds), at: "spec", "expirationSeconds")
        answer["status"] = [
            "token": .string(tokens.issue(claims, now: now, seconds: seconds)),
            "expirationTimestamp": .string(APITime.text(now + TimeInterval(seconds))),
        ]
        return answer
    }

    /// `POST tokenreviews`.
    func reviewToken(_ body: JSON, now: Date) -> JSON {
        var answer = body
        answer["kind"] = "TokenReview"
        answer["apiVersion"] = "authentication.k8s.io/v1"
        let asked = body.at("spec", "audiences")?.list?.compactMap(\.string) ?? []
        let wanted = asked.isEmpty ? [TokenAuthority.issuer] : asked
        let token = body.at("spec", "token")?.string ?? ""
        guard let (user, audiences) = user(of: token, now: now) else {
            answer["status"] = ["authenticated": false, "error": "[invalid bearer token]"]
            return answer
        }
        let granted = wanted.filter(audiences.contains)
        guard !granted.isEmpty else {
            answer["status"] = [
                "authenticated": false, "error": "[invalid bearer token, token audiences are not for this request]",
            ]
            return answer
        }
        answer["status"] = [
            "authenticated": true, "user": user.json, "audiences": .list(granted.map { .string($0) }),
        ]
        return answer
    }

    /// Whose token it is, and for whom; a token of a service account or pod that is no more is nobody's.
    func user(of token: String, now: Date) -> (APIUser, audiences: [String])? {
        if let known = staticTokens[token] { return known }
        guard let claims = tokens.check(token, now: now) else { return nil }
        func uid(_ plural: String, _ name: String) -> String? {
            store.kinds.all[plural].flatMap { store.get($0, Store.ID(namespace: claims.namespace, name: name)) }?.uid
        }
        guard uid("serviceaccounts", claims.account) == claims.accountUID else { return nil }
        var user = APIUser(
            name: "system:serviceaccount:\(claims.namespace):\(claims.account)", uid: claims.accountUID,
            groups: [
                "system:serviceaccounts", "system:serviceaccounts:\(claims.namespace)", "system:authenticated",
            ])
        let prefix = "authentication.kubernetes.io"
        user.extra["\(prefix)/credential-id"] = ["JTI=\(claims.id)"]
        if let pod = claims.pod {
            guard uid("pods", pod.name) == pod.uid else { return nil }
            user.extra["\(prefix)/pod-name"] = [pod.name]
            user.extra["\(prefix)/pod-uid"] = [pod.uid]
        }
        if let node = claims.node {
            user.extra["\(prefix)/node-name"] = [node.name]
            user.extra["\(prefix)/node-uid"] = [node.uid]
        }
        return (user, claims.audiences)
    }
}
