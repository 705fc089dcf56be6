import CLinux

/// The processors this process may run on.
public enum Processors {
    /// How many; at least 1.
    public static var allowed: Int { Int(max(1, apus_allowed_processors())) }
}
