/// Values that come again and again on the wire, held once for all who have them. Bounded: what is too much is forgotten
/// and shared anew from then on.
struct WireCaches: Sendable {
    static let stringLimit = 65_536
    static let traitsLimit = 16_384

    private var strings: Set<String> = []
    /// By the bytes of the fields they were read from.
    private var traits: [Key: WorkloadTraits] = [:]

    private struct Key: Hashable {
        let bytes: [UInt8]

        /// Eight bytes at a time: the library takes them one by one.
        func hash(into hasher: inout Hasher) {
            var word: UInt64 = 0
            for (index, byte) in bytes.enumerated() {
                word = word << 8 | UInt64(byte)
                if index & 7 == 7 { hasher.combine(word) }
            }
            hasher.combine(word)
            hasher.combine(bytes.count)
        }
    }

    /// The same text, with the storage of an equal one that was seen before.
    mutating func shared(_ text: String) -> String {
        // Shorter ones have no storage.
        guard text.utf8.count > 15 else { return text }
        if let index = strings.firstIndex(of: text) { return strings[index] }
        if strings.count >= Self.stringLimit { strings.removeAll(keepingCapacity: true) }
        strings.insert(text)
        return text
    }

    mutating func traits(
        _ bytes: [UInt8], make: (inout WireCaches) throws(ConversionError) -> WorkloadTraits
    ) throws(ConversionError) -> WorkloadTraits {
        let key = Key(bytes: bytes)
        if let known = traits[key] { return known }
        let made = try make(&self)
        if traits.count >= Self.traitsLimit { traits.removeAll(keepingCapacity: true) }
        traits[key] = made
        return made
    }
}
