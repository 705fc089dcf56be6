import CProfile
import Glibc
import Handover

/// Sampled stacks, and their form for tools: pprof's `Profile` message (proto/profile.proto of google/pprof, not
/// compressed), with two values a stack, the number of samples and the nanoseconds they stand for.
struct CPUProfile {
    let stacks: StackCounts
    let started: Timestamp
    let duration: Duration
    /// Samples in a second of processor time.
    let frequency: Int
    let map: ProgramMap

    /// The profile as a message. Functions have the names that the programs' symbol tables give them.
    func encoded() -> [UInt8] {
        var strings = StringTable()
        var profile = ProtobufWriter()
        let units = [("samples", "count"), ("cpu", "nanoseconds")].map { (strings.index($0.0), strings.index($0.1)) }
        for unit in units { profile.message(1) { Self.write(unit, to: &$0) } }
        let period = UInt64(1_000_000_000 / frequency)
        var places = Places(map)
        for (stack, count) in stacks.counts {
            let locations = stack.enumerated().map { depth, address in
                // A return address may be that of what comes after the caller's last line.
                UInt64(places.number(of: depth == 0 || address == 0 ? address : address - 1))
            }
            profile.message(2) {
                $0.packed(1, locations)
                $0.packed(2, [UInt64(count), UInt64(count) * period])
            }
        }
        for (index, mapping) in map.mappings.enumerated() {
            profile.message(3) {
                $0.number(1, UInt64(index + 1))
                $0.number(2, mapping.start)
                $0.number(3, mapping.end)
                $0.number(4, mapping.offset)
                $0.number(5, strings.index(mapping.path))
                $0.flag(7, true)
            }
        }
        write(places, &strings, to: &profile)
        profile.number(9, UInt64(clamping: started.microseconds) &* 1000)
        let (seconds, attoseconds) = duration.components
        profile.number(10, UInt64(clamping: seconds) * 1_000_000_000 + UInt64(clamping: attoseconds / 1_000_000_000))
        profile.message(11) { Self.write(units[1], to: &$0) }
        profile.number(12, period)
        if stacks.lost > 0 {
            profile.packed(13, [strings.index("\(stacks.lost) samples are not here: there was no room for them")])
        }
        for string in strings.all { profile.element(6, string) }
        return profile.bytes
    }

    private static func write(_ unit: (UInt64, UInt64), to writer: inout ProtobufWriter) {
        writer.number(1, unit.0)
        writer.number(2, unit.1)
    }

    private func write(_ places: Places, _ strings: inout StringTable, to profile: inout ProtobufWriter) {
        // By symbol.
        var functions: [String: UInt64] = [:]
        var symbols: [UInt64: String] = [:]
        for (mapping, addresses) in places.byMapping {
            guard let mapping, let file = ElfSymbols(path: map.mappings[mapping].path) else { continue }
            let (start, offset) = (map.mappings[mapping].start, map.mappings[mapping].offset)
            for address in addresses {
                guard let symbol = file.name(atFileOffset: address - start &+ offset) else { continue }
                symbols[address] = symbol
                if functions[symbol] == nil { functions[symbol] = UInt64(functions.count + 1) }
            }
        }
        for (address, number) in places.numbers {
            profile.message(4) {
                $0.number(1, UInt64(number))
                $0.number(2, map.index(of: address).map { UInt64($0 + 1) } ?? 0)
                $0.number(3, address)
                guard let function = symbols[address].flatMap({ functions[$0] }) else { return }
                $0.message(4) { $0.number(1, function) }
            }
        }
        for (symbol, number) in functions {
            let (name, system) = (strings.index(Self.readable(symbol)), strings.index(symbol))
            profile.message(5) {
                $0.number(1, number)
                $0.number(2, name)
                $0.number(3, system)
            }
        }
    }

    /// What a symbol of Swift stands for; others as they are.
    static func readable(_ symbol: String) -> String {
        guard symbol.hasPrefix("$s") || symbol.hasPrefix("$S"), let text = apus_demangle(symbol) else { return symbol }
        defer { free(text) }
        return String(String(cString: text).prefix(1000))
    }
}

/// The places in code that stacks lead through, numbered from 1.
private struct Places {
    private let map: ProgramMap
    private(set) var numbers: [UInt64: Int] = [:]

    init(_ map: ProgramMap) { self.map = map }

    mutating func number(of address: UInt64) -> Int {
        if let number = numbers[address] { return number }
        numbers[address] = numbers.count + 1
        return numbers.count
    }

    /// Under the index of their mapping.
    var byMapping: [Int?: [UInt64]] { Dictionary(grouping: numbers.keys) { map.index(of: $0) } }
}

/// Texts by number; number 0 is the empty text.
private struct StringTable {
    private(set) var all = [""]
    private var indices = ["": UInt64(0)]

    mutating func index(_ text: String) -> UInt64 {
        if let index = indices[text] { return index }
        indices[text] = UInt64(all.count)
        all.append(text)
        return UInt64(all.count - 1)
    }
}
