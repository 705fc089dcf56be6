import Addressing
import Logging
import Mesh
import Synchronization

/// What policy decided, told to the operator: at debug, or at info with `AUTHZ_POLICY_INFO_LOGGING`.
///
/// Off, it costs a connection one relaxed load.
final class PolicyLog: Sendable {
    private let logger: Logger
    /// At which the lines are written.
    private let level: Logger.Level
    private let isOn = Atomic<Bool>(false)

    init(atInfo: Bool, logger: Logger = Logger(label: PolicyLog.label)) {
        self.logger = logger
        level = atInfo ? .info : .debug
    }

    /// The target that log filters know it by.
    static let label = "rbac"

    /// The level in force for ``label``.
    func setLevel(_ threshold: Logger.Level) { isOn.store(level >= threshold, ordering: .relaxed) }

    func note(_ verdict: AuthorizationVerdict, on question: AuthorizationRequest) {
        guard isOn.load(ordering: .relaxed) else { return }
        var fields: Logger.Metadata = [
            "src.addr": "\(question.sourceAddress)", "dst.addr": "\(question.destination)",
        ]
        if let identity = question.sourceIdentity { fields["src.identity"] = "\(identity)" }
        for dryRun in verdict.dryRun {
            var fields = fields
            fields["policy"] = "\(dryRun.policy)"
            logger.log(level: level, "dry-run \(dryRun.action) policy matches", metadata: fields)
        }
        for key in verdict.unknownPolicies {
            var fields = fields
            fields["policy"] = "\(key)"
            logger.log(level: level, "policy is not known", metadata: fields)
        }
        if let policy = verdict.policy { fields["policy"] = "\(policy)" }
        let text =
            switch verdict.outcome {
            case .allowedByDefault: "no allow policies, allow"
            case .allowed: "allow policy matches"
            case .denied: "deny policy matches"
            case .notAllowed: "allow policies exist, but none allowed"
            case .unknownPolicy: "refused until the policy is known"
            }
        logger.log(level: level, "\(text)", metadata: fields)
    }
}
