import Foundation
import GRPCCore
import Identity
import Logging

/// Who sends a request. Every refusal looks the same from outside; why is in the log.
struct CallerCheck: Sendable {
    let verifier: any CallerVerifier
    let now: @Sendable () -> Date
    let metrics: ControllerMetrics
    let logger: Logger

    /// What every refused caller is told.
    static let refusal = RPCError(code: .unauthenticated, message: "the request is not authenticated")

    /// What a caller is told who cannot be checked now: to come again.
    static let unavailable = RPCError(code: .unavailable, message: "the request cannot be authenticated now")

    /// - Throws: ``refusal``, or ``unavailable``.
    func caller(_ metadata: Metadata, of service: String) async throws(RPCError) -> Caller {
        let headers = Array(metadata[stringValues: "authorization"])
        do throws(IdentityError) {
            guard headers.count <= 1 else {
                throw IdentityError(.tokenMalformed, "the request has several authorization headers")
            }
            return try await verifier.caller(token: BearerToken.token(of: headers.first), now: now())
        } catch {
            let isUnavailable = error.code == .authorityUnreachable
            let refusal = refuse(service, error.code.rawValue, "\(error)")
            throw isUnavailable ? Self.unavailable : refusal
        }
    }

    /// Writes down why and returns what the caller is told.
    func refuse(_ service: String, _ code: String, _ reason: String, node: String = "") -> RPCError {
        metrics.refusals.with([service, code]).increment()
        logger.warning(
            "request refused",
            metadata: ["service": "\(service)", "code": "\(code)", "reason": "\(reason)", "node": "\(node)"])
        return Self.refusal
    }
}
