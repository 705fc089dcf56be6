import Foundation
import Identity
import ObjectSource

/// Whom a token belongs to.
struct Caller: Hashable, Sendable, CustomStringConvertible {
    var namespace: String
    var serviceAccount: String
    /// By the token's word; empty where it names none.
    var node = ""
    /// The pod that the token is bound to, with its uid.
    var pod: PodReference?
    /// The token itself says that its holder speaks for ``node``.
    var isNodeItself = false

    var account: ObjectName { ObjectName(namespace: namespace, name: serviceAccount) }
    var description: String {
        pod.map { "\(account) in pod \($0.name)" } ?? (node.isEmpty ? "\(account)" : "\(account) on \(node)")
    }
}

/// Says whom a token belongs to.
protocol CallerVerifier: Sendable {
    /// - Throws: ``IdentityError``; `authorityUnreachable` when it cannot be said now.
    func caller(token: String, now: Date) async throws(IdentityError) -> Caller
}

/// By the tokens that this controller itself issues to nodes.
extension NodeTokenVerifier: CallerVerifier {
    func caller(token: String, now: Date) async throws(IdentityError) -> Caller {
        let claims = try await verify(token, now: now)
        return Caller(
            namespace: claims.namespace, serviceAccount: claims.serviceAccount, node: claims.node, isNodeItself: true)
    }
}

/// By the cluster's keys, without asking it.
extension ServiceAccountTokenVerifier: CallerVerifier {
    func caller(token: String, now: Date) async throws(IdentityError) -> Caller {
        let claims = try await verify(token, now: now)
        return Caller(
            namespace: claims.namespace, serviceAccount: claims.serviceAccount, node: claims.node,
            pod: claims.podName.isEmpty
                ? nil
                : PodReference(name: ObjectName(namespace: claims.namespace, name: claims.podName), uid: claims.podUID))
    }
}
