import Testing

/// docs/architecture.md is the rule; the manifest and the sources are held against it.
@Suite("The rooms and who sees whom")
struct ArchitectureTests {
    let table: LayerTable
    let manifest: Manifest

    init() throws {
        table = try LayerTable(markdown: Repository.text("docs/architecture.md"))
        manifest = try Self.loaded.get()
    }

    // Asked once; the package manager takes a second.
    private static let loaded = Result { try Manifest.load() }

    private var rooms: [Manifest.Target] { manifest.targets.filter { !$0.isTest } }

    @Test("every target is in the table, and every row is a target")
    func tableAndManifestAgree() {
        #expect(Set(rooms.map(\.name)) == Set(table.rooms.keys))
    }

    @Test("every folder of sources and tests belongs to a target")
    func foldersAndManifestAgree() throws {
        #expect(try Repository.folders(in: "Sources") == Set(rooms.map(\.name)))
        // Tests/Peers holds the foreign peers, which no target compiles.
        #expect(
            try Repository.folders(in: "Tests").subtracting(["Peers"])
                == Set(manifest.targets.filter(\.isTest).map(\.name)))
    }

    @Test("dependencies in the manifest point down")
    func dependenciesPointDown() throws {
        for target in rooms {
            let room = try #require(table.rooms[target.name])
            for name in target.targetDependencies {
                let other = try #require(table.rooms[name], "\(target.name) depends on \(name), which is in no layer")
                #expect(other.rank < room.rank, "\(target.name) (\(room.layer)) depends on \(name) (\(other.layer))")
            }
        }
    }

    @Test("imports in the sources point down and are declared")
    func importsPointDown() throws {
        for target in rooms {
            let room = try #require(table.rooms[target.name])
            for file in try Repository.swiftFiles(under: "Sources/\(target.name)") {
                for module in try Imports.modules(in: Repository.text(file)) {
                    guard let other = table.rooms[module] else { continue }
                    #expect(other.rank < room.rank, "\(file) (\(room.layer)) imports \(module) (\(other.layer))")
                    #expect(
                        target.targetDependencies.contains(module),
                        "\(file) imports \(module), which Package.swift does not give to \(target.name)")
                }
            }
        }
    }

    @Test("rooms without Foundation import none, and use no room that does")
    func foundationFree() throws {
        for target in rooms {
            guard let room = table.rooms[target.name], !room.mayUseFoundation else { continue }
            for file in try Repository.swiftFiles(under: "Sources/\(target.name)") {
                let modules = try Imports.modules(in: Repository.text(file))
                #expect(
                    modules.isDisjoint(with: ["Foundation", "FoundationEssentials", "FoundationNetworking"]),
                    "\(file) imports Foundation")
            }
            for name in target.targetDependencies {
                #expect(
                    table.rooms[name]?.mayUseFoundation == false,
                    "\(target.name) must be free of Foundation and depends on \(name), which may use it")
            }
        }
    }

    /// Modules that one room alone may see, and why: the table's text below it.
    @Test(
        "modules that are held apart stay apart",
        arguments: [
            ("CNIOBoringSSL", ["TLSEngine"]), ("CMnl", ["Netlink"]), ("CBpf", ["Redirection"]),
            ("CNftables", [String]()), ("TestSupport", [String]()), ("CProfile", ["Observability"]),
        ])
    func heldApart(module: String, allowed: [String]) throws {
        for target in rooms where !allowed.contains(target.name) {
            #expect(!target.targetDependencies.contains(module), "\(target.name) depends on \(module)")
            for file in try Repository.swiftFiles(under: "Sources/\(target.name)") {
                #expect(try !Imports.modules(in: Repository.text(file)).contains(module), "\(file) imports \(module)")
            }
        }
    }

    @Test("nothing else reaches into another package's C modules")
    func noForeignCModules() throws {
        let inner = [
            "CNIOBoringSSL", "CNIOBoringSSLShims", "CCryptoBoringSSL", "CNIOLinux", "CNIOPosix", "CNIOAtomics",
        ]
        for target in rooms where target.name != "TLSEngine" {
            for file in try Repository.swiftFiles(under: "Sources/\(target.name)") {
                let found = try Imports.modules(in: Repository.text(file)).intersection(inner)
                #expect(found.isEmpty, "\(file) imports \(found.sorted())")
            }
        }
    }

    @Test("the package with BoringSSL in it is pinned exactly, and its room is built by itself in make test")
    func boringSSLIsPinned() throws {
        let manifest = try Repository.text("Package.swift")
        #expect(manifest.contains(#"swift-nio-ssl", exact: ""#))
        let makefile = try Repository.text("Makefile")
        #expect(makefile.contains("build --target TLSEngine"))
        #expect(makefile.contains("build-tests: deps-build build-alone"))
    }

    @Test("the static programs link no shared library of the system")
    func standaloneProgramsAreStatic() throws {
        for name in ["apus-cni", "apus-sockets"] {
            var seen: Set<String> = []
            var open = [name]
            while let next = open.popLast() {
                guard seen.insert(next).inserted, let target = rooms.first(where: { $0.name == next }) else { continue }
                #expect(target.products.isEmpty, "\(name) reaches the packages \(target.products) through \(next)")
                open += target.targetDependencies
            }
            #expect(seen.isDisjoint(with: ["CBpf", "CMnl", "CNftables"]), "\(name) reaches a system library")
        }
    }
}
