import LinuxNetwork

/// The functions of a program or library, from the symbol table of its file (ELF, 64 bits, little-endian).
///
/// Names stay in the file until they are asked for: the table of a Swift program has ten megabytes of them.
struct ElfSymbols {
    private struct Function {
        let start: UInt64
        let size: UInt64
        let name: UInt32
    }

    private struct Segment {
        let offset: UInt64
        let address: UInt64
        let size: UInt64
    }

    private static let largestTable = 128 << 20
    private static let longestName = 8 << 10

    private let file: ReadOnlyFile
    private let segments: [Segment]
    private let functions: [Function]
    private let names: (offset: UInt64, size: UInt64)

    /// `nil` where the file cannot be read or is none of the kind: its addresses stay without names.
    init?(path: String) {
        guard let file = try? ReadOnlyFile(path), let header = try? file.read(64, at: 0), header.count == 64,
            header.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1])
        else { return nil }
        guard
            let programs = Self.table(
                file, at: header.u64(32), entry: header.u16(54), count: header.u16(56), least: 56),
            let sections = Self.table(
                file, at: header.u64(40), entry: header.u16(58), count: header.u16(60), least: 64)
        else { return nil }
        segments = programs.filter { $0.u32(0) == 1 }.map {
            Segment(offset: $0.u64(8), address: $0.u64(16), size: $0.u64(32))
        }
        // The full table, or what is left of it in a stripped file: the names that others link to.
        guard let symbols = sections.first(where: { $0.u32(4) == 2 }) ?? sections.first(where: { $0.u32(4) == 11 }),
            sections.indices.contains(Int(symbols.u32(40))), let size = Int(exactly: symbols.u64(32)),
            size <= Self.largestTable, let table = try? file.read(size, at: symbols.u64(24))
        else { return nil }
        let strings = sections[Int(symbols.u32(40))]
        names = (strings.u64(24), strings.u64(32))
        functions = stride(from: 0, to: table.count - 23, by: 24).compactMap { at in
            // A function, and one that is in this file.
            guard table[at + 4] & 0xf == 2, table.u16(at + 6) != 0 else { return nil }
            return Function(start: table.u64(at + 8), size: table.u64(at + 16), name: table.u32(at))
        }.sorted { $0.start < $1.start }
        self.file = file
    }

    private static func table(
        _ file: ReadOnlyFile, at offset: UInt64, entry: UInt16, count: UInt16, least: Int
    ) -> [[UInt8]]? {
        let size = Int(entry) * Int(count)
        guard entry >= least, let bytes = try? file.read(size, at: offset), bytes.count == size else { return nil }
        return stride(from: 0, to: size, by: Int(entry)).map { Array(bytes[$0..<$0 + Int(entry)]) }
    }

    /// The symbol of the function at a place of the file; `nil` between functions.
    func name(atFileOffset place: UInt64) -> String? {
        guard
            let segment = segments.first(where: { $0.offset <= place && place - $0.offset < $0.size })
        else { return nil }
        let address = segment.address &+ (place - segment.offset)
        let after = functions.firstIndexAfter { $0.start <= address }
        guard after > 0 else { return nil }
        let function = functions[after - 1]
        // Some of assembler's do not say how long they are.
        guard function.size == 0 || address - function.start < function.size else { return nil }
        guard UInt64(function.name) < names.size,
            let bytes = try? file.read(Self.longestName, at: names.offset &+ UInt64(function.name)),
            let end = bytes.firstIndex(of: 0), end > 0
        else { return nil }
        return String(decoding: bytes[..<end], as: UTF8.self)
    }
}

extension [UInt8] {
    fileprivate func number(_ at: Int, _ count: Int) -> UInt64 {
        guard at >= 0, at + count <= self.count else { return 0 }
        return self[at..<at + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    fileprivate func u16(_ at: Int) -> UInt16 { UInt16(number(at, 2)) }
    fileprivate func u32(_ at: Int) -> UInt32 { UInt32(number(at, 4)) }
    fileprivate func u64(_ at: Int) -> UInt64 { number(at, 8) }
}
