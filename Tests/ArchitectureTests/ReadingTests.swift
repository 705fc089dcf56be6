import Testing

/// A rule whose reader is blind proves nothing, so the readers are tested too.
@Suite("Reading imports and the table of rooms")
struct ReadingTests {
    @Test(
        "imports in all their forms",
        arguments: [
            ("import Mesh", ["Mesh"]),
            ("  import Mesh  // why", ["Mesh"]),
            ("@testable import Mesh", ["Mesh"]),
            ("@preconcurrency public import Mesh", ["Mesh"]),
            ("package import Mesh", ["Mesh"]),
            ("import struct Mesh.Workload", ["Mesh"]),
            ("import Mesh.Deep", ["Mesh"]),
            ("import Mesh;", ["Mesh"]),
            ("import A\nimport func B.c", ["A", "B"]),
            ("// import Mesh", []),
            ("let important = 1", []),
        ])
    func imports(source: String, modules: [String]) {
        #expect(Imports.modules(in: source) == Set(modules))
    }

    private let header = "| layer | target | Foundation | holds |\n|---|---|---|---|\n"

    @Test func tableRanksFromTheBottom() throws {
        let table = try LayerTable(
            markdown: "text\n\n" + header
                + "| top | `A` | yes | x |\n| low | `B` | no | y |\n| low | `C` | no | z |\n\nend")
        #expect(table.layers == ["top", "low"])
        #expect(table.rooms["A"]?.rank == 1)
        #expect(table.rooms["B"]?.rank == 0)
        #expect(table.rooms["C"]?.rank == 0)
        #expect(table.rooms["A"]?.mayUseFoundation == true)
        #expect(table.rooms["B"]?.mayUseFoundation == false)
        #expect(table.rooms.count == 3)
    }

    @Test(
        "tables that say nothing certain are refused",
        arguments: [
            "no table",
            "| layer | target | Foundation | holds |\n|---|---|---|---|\n| a | `A` | maybe | x |",
            "| layer | target | Foundation | holds |\n|---|---|---|---|\n| a | `A` | yes |",
            "| layer | target | Foundation | holds |\n|---|---|---|---|\n| a | `A` | yes | x |\n| b | `A` | yes | x |",
            "| layer | target | Foundation | holds |\n|---|---|---|---|\n| a | `A` | no | x |\n| b | `B` | no | x |\n"
                + "| a | `C` | no | x |",
        ])
    func refused(markdown: String) {
        #expect(throws: LayerTable.Problem.self) { try LayerTable(markdown: markdown) }
    }
}
