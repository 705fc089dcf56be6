import Foundation
import Glibc
import Synchronization
import Testing

@testable import Observability

/// Profiles of this very process. Serialised: there is one profiling timer.
@Suite("CPU profile", .serialized)
struct CPUProfileTests {
    @Test("a function that burns processor time is found by its name, and the samples are as many as the time it took")
    func names() async throws {
        let burner = Burner()
        defer { burner.stop() }
        let profile = try Pprof(try await CPUProfiler.record(for: .seconds(2), frequency: 100).encoded())
        #expect(profile.units == ["samples/count", "cpu/nanoseconds"] && profile.period == 10_000_000)
        let burning = profile.samples.filter { $0.functions.contains { $0.contains("burnProcessorTime") } }
        let count = burning.reduce(0) { $0 + $1.values[0] }
        // Others may want the processors; two seconds of one are 200 samples.
        #expect((20...210).contains(count), "\(count) samples")
        #expect(burning.allSatisfy { $0.values[1] == $0.values[0] * 10_000_000 })
        // Who called it is behind it: the thread's own beginning, in the C library.
        #expect(burning.contains { $0.functions.count >= 2 })
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        #expect(profile.mappings.contains(program))
    }

    @Test("one at a time, and again when it is over")
    func one() async throws {
        try CPUProfiler.start(100)
        let error = await #expect(throws: CPUProfiler.Failure.self) {
            try await CPUProfiler.record(for: .zero, frequency: 100)
        }
        #expect(error?.code == .busy)
        _ = await CPUProfiler.finish(after: .zero, 100)
        _ = try await CPUProfiler.record(for: .zero, frequency: 100)
    }

    @Test("a cancelled profile ends at once and leaves the timer to the next")
    func cancelled() async throws {
        let task = Task { try await CPUProfiler.record(for: .seconds(200), frequency: 100) }
        task.cancel()
        _ = try await task.value
        _ = try await CPUProfiler.record(for: .zero, frequency: 1000)
    }

    @Test("words that do not hold together are no samples; what is beyond the bound is counted")
    func counts() {
        var stacks = StackCounts()
        stacks.add([2, 10, 20, 1, 10, 2, 10, 20, 0, 3][...])
        #expect(stacks.counts == [[10, 20]: 2, [10]: 1])
        stacks.add([3, 1, 2][...])
        stacks.add([UInt64.max, 1][...])
        #expect(stacks.counts.count == 2 && stacks.lost == 0)
        for number in 0..<UInt64(StackCounts.limit + 5) { stacks.add([1, number + 100][...]) }
        #expect(stacks.counts.count == StackCounts.limit && stacks.lost == 7)
        stacks.add([1, 10][...])
        #expect(stacks.counts[[10]] == 2)
    }

    @Test("mappings are read, other lines passed over")
    func mappings() {
        let map = ProgramMap(
            """
            5600-5700 r--p 00000000 08:01 12 /usr/bin/apus
            5700-5800 r-xp 00000100 08:01 12 /usr/bin/a name
            nonsense
            7f00-7e00 r-xp 00000000 00:00 0
            7fff-8fff r-xp 00000000 00:00 0                  [vdso]
            """)
        #expect(map.mappings.map(\.path) == ["/usr/bin/a name", "[vdso]"])
        #expect(map.index(of: 0x5700) == 0 && map.index(of: 0x57ff) == 0 && map.index(of: 0x8ffe) == 1)
        #expect(map.index(of: 0x5699) == nil && map.index(of: 0x5800) == nil && map.index(of: 0x8fff) == nil)
    }

    @Test("files that are no programs, and broken ones, have no symbols", arguments: [0, 20, 64, 4000])
    func broken(length: Int) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "elf-\(UUID().uuidString)").path
        defer { unlink(path) }
        let whole = try #require(FileManager.default.contents(atPath: "/proc/self/exe"))
        var bytes = Array(whole.prefix(length))
        FileManager.default.createFile(atPath: path, contents: Data(bytes))
        #expect(ElfSymbols(path: path) == nil)
        // Tables that lie outside of the file, by every byte of the header.
        for index in 0..<min(bytes.count, 64) {
            let good = bytes[index]
            bytes[index] = 0xff
            try Data(bytes).write(to: URL(fileURLWithPath: path))
            _ = ElfSymbols(path: path)?.name(atFileOffset: 0)
            bytes[index] = good
        }
        #expect(ElfSymbols(path: path + "-not-there") == nil)
    }

    @Test("symbols of Swift are told as they are written")
    func readable() {
        #expect(CPUProfile.readable("$s4Mesh0A5StateV") == "Mesh.MeshState")
        #expect(CPUProfile.readable("main") == "main" && CPUProfile.readable("$snonsense") == "$snonsense")
    }
}

/// A thread that does nothing but use its processor.
private final class Burner: Sendable {
    private let isOver = Atomic<Bool>(false)
    private let sum = Atomic<UInt64>(0)

    init() { Thread { [self] in burnProcessorTime() }.start() }

    @inline(never)
    private func burnProcessorTime() {
        while !isOver.load(ordering: .relaxed) {
            for number in 0..<10_000 as Range<UInt64> { sum.wrappingAdd(number, ordering: .relaxed) }
        }
    }

    func stop() { isOver.store(true, ordering: .relaxed) }
}

/// A reader of its own of google/pprof's `Profile`, from the published field numbers.
private struct Pprof {
    struct Sample {
        let values: [Int]
        /// Innermost first.
        let functions: [String]
    }

    var samples: [Sample] = []
    var units: [String] = []
    var mappings: [String] = []
    var period = 0

    init(_ bytes: [UInt8]) throws {
        let fields = try Self.fields(bytes[...])
        let strings = fields.filter { $0.number == 6 }.map { String(decoding: $0.bytes, as: UTF8.self) }
        #expect(strings.first == "")
        func inner(_ number: Int) throws -> [[Field]] {
            try fields.filter { $0.number == number }.map { try Self.fields($0.bytes) }
        }
        func value(_ fields: [Field], _ number: Int) -> Int { fields.first { $0.number == number }?.value ?? 0 }
        units = try inner(1).map { "\(strings[value($0, 1)])/\(strings[value($0, 2)])" }
        mappings = try inner(3).map { strings[value($0, 5)] }
        period = value(fields, 12)
        let functions = Dictionary(uniqueKeysWithValues: try inner(5).map { (value($0, 1), strings[value($0, 2)]) })
        let mappingIDs = Set(try inner(3).map { value($0, 1) } + [0])
        var locations: [Int: [String]] = [:]
        for location in try inner(4) {
            #expect(mappingIDs.contains(value(location, 2)))
            let lines = try location.filter { $0.number == 4 }.map { try Self.fields($0.bytes) }
            locations[value(location, 1)] = try lines.map { try #require(functions[value($0, 1)]) }
        }
        samples = try inner(2).map { sample in
            let places = try #require(sample.first { $0.number == 1 })
            let values = try #require(sample.first { $0.number == 2 })
            return Sample(
                values: try Self.packed(values.bytes),
                functions: try Self.packed(places.bytes).flatMap { try #require(locations[$0]) })
        }
    }

    private struct Field {
        let number: Int
        var value = 0
        var bytes: ArraySlice<UInt8> = []
    }

    private struct Malformed: Error {}

    private static func varint(_ bytes: inout ArraySlice<UInt8>) throws -> Int {
        var (result, shift) = (0, 0)
        while let byte = bytes.popFirst() {
            result |= Int(byte & 0x7f) << shift
            if byte < 0x80 { return result }
            shift += 7
        }
        throw Malformed()
    }

    private static func packed(_ bytes: ArraySlice<UInt8>) throws -> [Int] {
        var rest = bytes
        var all: [Int] = []
        while !rest.isEmpty { all.append(try varint(&rest)) }
        return all
    }

    private static func fields(_ bytes: ArraySlice<UInt8>) throws -> [Field] {
        var rest = bytes
        var all: [Field] = []
        while !rest.isEmpty {
            let tag = try varint(&rest)
            switch tag & 7 {
            case 0: all.append(Field(number: tag >> 3, value: try varint(&rest)))
            case 2:
                let length = try varint(&rest)
                guard length <= rest.count else { throw Malformed() }
                all.append(Field(number: tag >> 3, bytes: rest.prefix(length)))
                rest = rest.dropFirst(length)
            default: throw Malformed()
            }
        }
        return all
    }
}
