/// Values that come again and again on the wire, held once for all who have them. Bounded: what is too much is forgotten
/// and shared anew from then on.
struct WireCaches: Sendable {
    static let traitsLimit = 16_384
    static let servicesLimit = 16_384

    private let seed: UInt64
    private var texts: TextCache
    /// By the bytes of the fields they were read from.
    private var traits: [Key: WorkloadTraits] = [:]
    private var services: [Key: [NamespacedHostname: PortMap]] = [:]
    /// Emptied after use and used again: a workload's bytes are looked at in one piece, and nearly none are kept.
    private var scratch = WorkloadWire.Scratch()

    init() {
        seed = .random(in: 0 ... .max)
        texts = TextCache(seed: seed)
    }

    private struct Key: Hashable {
        let bytes: [UInt8]
        let digest: UInt64

        static func == (left: Key, right: Key) -> Bool {
            left.digest == right.digest && WireBytes.areEqual(left.bytes.span, right.bytes.span)
        }

        func hash(into hasher: inout Hasher) { hasher.combine(digest) }
    }

    /// The text of these bytes, with the storage of an equal one that was seen before.
    mutating func text(_ bytes: Span<UInt8>, _ field: String) throws(ConversionError) -> String {
        try texts.text(bytes, field)
    }

    mutating func traits(
        _ bytes: [UInt8], make: (inout WireCaches) throws(ConversionError) -> WorkloadTraits
    ) throws(ConversionError) -> WorkloadTraits {
        let digest = WireBytes.digest(bytes.span, seed: seed)
        if let known = traits[Key(bytes: bytes, digest: digest)] { return known }
        let made = try make(&self)
        if traits.count >= Self.traitsLimit { traits.removeAll(keepingCapacity: true) }
        traits[Key(bytes: Array(bytes[...]), digest: digest)] = made
        return made
    }

    /// What a workload serves. Pods of one deployment in several zones differ in other things and not in this.
    mutating func services(
        _ bytes: ArraySlice<UInt8>, make: (inout WireCaches) throws(ConversionError) -> [NamespacedHostname: PortMap]
    ) throws(ConversionError) -> [NamespacedHostname: PortMap] {
        guard !bytes.isEmpty else { return [:] }
        let key = Key(bytes: Array(bytes), digest: WireBytes.digest(bytes.span, seed: seed))
        if let known = services[key] { return known }
        let made = try make(&self)
        if services.count >= Self.servicesLimit { services.removeAll(keepingCapacity: true) }
        services[key] = made
        return made
    }

    mutating func takeScratch() -> WorkloadWire.Scratch {
        var taken = WorkloadWire.Scratch()
        swap(&taken, &scratch)
        return taken
    }

    mutating func giveBack(_ used: inout WorkloadWire.Scratch) {
        used.empty()
        swap(&used, &scratch)
    }
}
