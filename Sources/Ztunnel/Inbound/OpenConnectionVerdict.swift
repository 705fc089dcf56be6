import Mesh

extension AuthorizationVerdict {
    /// Whether a connection that was let through has to end now that this is the verdict.
    ///
    /// A workload and the policies it lists come as resources of different types, in no order: while one that is listed is not
    /// known, nothing new is let in, but what is open was allowed by all that was known. It is asked about again when the
    /// policy comes, or is listed no more.
    var endsOpenConnection: Bool {
        if case .unknownPolicy = outcome { return false }
        return !isAllowed
    }
}
