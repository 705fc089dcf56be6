/// What the kernel takes as the name of a network interface.
public enum InterfaceName {
    /// The longest the kernel stores (`IFNAMSIZ` less its zero byte).
    public static let mostBytes = 15

    /// What is wrong with a name, for an operator; `nil` when an interface can have it.
    public static func problem(_ name: String) -> String? {
        let bytes = name.utf8
        if bytes.isEmpty { return "is empty" }
        if bytes.count > mostBytes { return "is longer than \(mostBytes) bytes" }
        if name == "." || name == ".." { return "is no name" }
        // As isspace() has it, which the kernel asks.
        let forbidden: (UInt8) -> Bool = { $0 == 0 || $0 == 0x20 || (9...13).contains($0) || $0 == 0x2f || $0 == 0x3a }
        return bytes.contains(where: forbidden) ? "has a slash, a colon or white space in it" : nil
    }

    /// What is wrong with the name of a virtual interface; `nil` when ``RedirectionPlan/virtualInterfaces`` takes it.
    public static func virtualProblem(_ name: String) -> String? {
        name == "lo" ? "is the pod's own loopback, where nobody else's traffic comes in" : problem(name)
    }
}
