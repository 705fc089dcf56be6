// swift-tools-version: 6.2
import PackageDescription

// The rooms of the house and who may see whom: docs/architecture.md has the table,
// Tests/ArchitectureTests holds this file and every import against it.

let strict: [SwiftSetting] = [.swiftLanguageMode(.v6)]

/// Programs that must start fast and depend on nothing at run time: linked whole, without Foundation.
let standalone: [LinkerSetting] = [.unsafeFlags(["-static-executable", "-use-ld=lld"])]

/// The main program takes Swift's libraries in (not the C library, which must resolve names as the machine does), and
/// its relocations are packed: a process starts in two thirds of the time and shares more of its memory. The modules
/// do not say by themselves what the static Foundation needs.
let selfContained: [LinkerSetting] = [
    .unsafeFlags([
        "-static-stdlib", "-use-ld=lld", "-lCoreFoundation", "-l_FoundationICU", "-l_FoundationCShims",
        "-l_FoundationCollections", "-Xlinker", "-z", "-Xlinker", "pack-relative-relocs",
    ])
]

extension Target.Dependency {
    static let nioCore = product(name: "NIOCore", package: "swift-nio")
    static let nioPosix = product(name: "NIOPosix", package: "swift-nio")
    static let nioTLS = product(name: "NIOTLS", package: "swift-nio")
    static let nioHTTP1 = product(name: "NIOHTTP1", package: "swift-nio")
    static let nioHTTPCompression = product(name: "NIOHTTPCompression", package: "swift-nio-extras")
    static let nioReloading = product(name: "NIOCertificateReloading", package: "swift-nio-extras")
    static let nioHPACK = product(name: "NIOHPACK", package: "swift-nio-http2")
    static let nioSSL = product(name: "NIOSSL", package: "swift-nio-ssl")
    static let logging = product(name: "Logging", package: "swift-log")
    static let x509 = product(name: "X509", package: "swift-certificates")
    static let crypto = product(name: "Crypto", package: "swift-crypto")
    static let asn1 = product(name: "SwiftASN1", package: "swift-asn1")
    static let jwt = product(name: "JWTKit", package: "jwt-kit")
    static let protobuf = product(name: "SwiftProtobuf", package: "swift-protobuf")
    static let grpcCore = product(name: "GRPCCore", package: "grpc-swift-2")
    static let grpcProtobuf = product(name: "GRPCProtobuf", package: "grpc-swift-protobuf")
    static let grpcTransport = product(name: "GRPCNIOTransportHTTP2", package: "grpc-swift-nio-transport")
    static let hashTrees = product(name: "HashTreeCollections", package: "swift-collections")
    static let deque = product(name: "DequeModule", package: "swift-collections")
    static let yams = product(name: "Yams", package: "Yams")
    static let arguments = product(name: "ArgumentParser", package: "swift-argument-parser")
    static let httpClient = product(name: "AsyncHTTPClient", package: "async-http-client")
    static let lifecycle = product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
}

/// The rooms whose parsers are fuzzed.
let fuzzed: [Target.Dependency] = ["DNS", "Handover", "HBONE", "Mesh", "TLSEngine"]

let package = Package(
    name: "apus",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "apus", targets: ["apus"]),
        .executable(name: "apus-cni", targets: ["apus-cni"]),
        .executable(name: "apus-sockets", targets: ["apus-sockets"]),
        .library(name: "Redirection", targets: ["Redirection", "Addressing", "LinuxNetwork"]),
        .library(name: "CNI", targets: ["CNI"]),
        .library(name: "Mesh", targets: ["Mesh"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
        // Exact: TLSEngine reaches the BoringSSL inside it, which is no public product.
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.0"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.9.0"),
        .package(url: "https://github.com/grpc/grpc-swift-protobuf", from: "2.4.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.0"),
    ],
    targets: [
        // MARK: Ground
        .target(name: "CLinux", cSettings: [.define("_GNU_SOURCE")]),
        // Apart from CLinux: it calls into Swift's runtime, and the static programs have no use for it.
        .target(name: "CProfile"),
        .systemLibrary(name: "CMnl", pkgConfig: "libmnl", providers: [.apt(["libmnl-dev"])]),
        .systemLibrary(name: "CNftables", pkgConfig: "libnftables", providers: [.apt(["libnftables-dev"])]),
        // libbpf from its archives: a node needs no library of it.
        .target(
            name: "CBpf",
            linkerSettings: [.linkedLibrary(":libbpf.a"), .linkedLibrary(":libelf.a"), .linkedLibrary(":libz.a")]),
        .target(name: "Addressing", swiftSettings: strict),
        .target(name: "CNI", dependencies: ["Addressing"], swiftSettings: strict),
        .target(name: "Handover", swiftSettings: strict),
        .target(name: "LinuxNetwork", dependencies: ["CLinux", "Addressing"], swiftSettings: strict),
        .target(
            name: "Netlink", dependencies: ["CLinux", "CMnl", "Addressing", "LinuxNetwork"], swiftSettings: strict),
        .target(name: "IstioAPI", dependencies: [.protobuf, .grpcCore, .grpcProtobuf], swiftSettings: strict),

        // MARK: Model
        .target(name: "Mesh", dependencies: ["Addressing", .hashTrees], swiftSettings: strict),
        .target(
            name: "Observability",
            dependencies: [
                "CProfile", "Handover", "LinuxNetwork", .nioCore, .nioPosix, .nioHTTP1, .nioHTTPCompression, .logging,
                .deque,
            ],
            swiftSettings: strict),

        .target(
            name: "ObjectSource", dependencies: ["Addressing", .yams, .logging, .hashTrees, .deque],
            swiftSettings: strict),

        // MARK: Trust
        .target(
            name: "Identity",
            dependencies: [
                "Addressing", "IstioAPI", "Mesh", .x509, .crypto, .asn1, .jwt, .protobuf, .grpcCore, .grpcProtobuf,
                .grpcTransport, .logging,
            ], swiftSettings: strict),
        .target(name: "TLSEngine", dependencies: ["CLinux", "Mesh", .nioSSL], swiftSettings: strict),

        // MARK: Services
        .target(
            name: "Redirection", dependencies: ["Addressing", "CBpf", "LinuxNetwork", "Netlink"],
            swiftSettings: strict),
        .target(
            name: "HBONE",
            dependencies: ["Addressing", "LinuxNetwork", "Mesh", "TLSEngine", .nioCore, .nioHPACK, .deque],
            swiftSettings: strict),
        .target(
            name: "Discovery",
            dependencies: [
                "Addressing", "IstioAPI", "LinuxNetwork", "Mesh", .grpcCore, .grpcProtobuf, .grpcTransport, .protobuf,
                .nioCore, .deque, .hashTrees, .logging,
            ], swiftSettings: strict),
        .target(name: "DNS", dependencies: ["Addressing", "Mesh"], swiftSettings: strict),
        .target(
            name: "Kubernetes",
            dependencies: [
                "Addressing", "LinuxNetwork", "ObjectSource", "Observability", .httpClient, .nioCore, .nioPosix,
                .nioHTTP1,
                .nioSSL, .yams, .logging,
            ], swiftSettings: strict),

        // MARK: Engines
        .target(
            name: "NodeAgent",
            dependencies: [
                "Addressing", "CLinux", "CNI", "DNS", "Handover", "LinuxNetwork", "Netlink", "Redirection",
                "ObjectSource", "Observability", "Kubernetes", .logging, .lifecycle,
            ], swiftSettings: strict),
        .target(
            name: "Ztunnel",
            dependencies: [
                "Addressing", "DNS", "Handover", "LinuxNetwork", "HBONE", "TLSEngine", "Mesh", "Identity", "Discovery",
                "Observability", .logging, .lifecycle, .hashTrees, .deque, .yams,
            ], swiftSettings: strict),
        .target(
            name: "Controller",
            dependencies: [
                "Addressing", "Handover", "LinuxNetwork", "Mesh", "Identity", "Discovery", "ObjectSource",
                "Observability", "IstioAPI", "Kubernetes", .protobuf, .grpcCore, .grpcProtobuf, .grpcTransport,
                .nioCore, .nioTLS,
                .nioSSL, .nioReloading, .logging, .lifecycle,
            ], swiftSettings: strict),
        .target(
            name: "LocalCluster",
            dependencies: [
                "Addressing", "CLinux", "CNI", "LinuxNetwork", "Netlink", "Redirection", .logging, .yams,
            ],
            swiftSettings: strict),

        // What tests of several targets share; in no product of the list above.
        .target(name: "TestSupport", swiftSettings: strict),
        // An API server for tests; in no product of the list above.
        .target(
            name: "TestAPIServer",
            dependencies: [
                "Kubernetes", "ObjectSource", .nioCore, .nioPosix, .nioHTTP1, .nioSSL, .x509, .crypto, .asn1, .yams,
            ], swiftSettings: strict),

        // MARK: Programs
        .executableTarget(
            name: "apus",
            dependencies: [
                "Addressing", "NodeAgent", "Ztunnel", "Controller", "LocalCluster", "LinuxNetwork", "Mesh", "Discovery",
                "Observability", "Identity", "Kubernetes", "ObjectSource", "Redirection", "CLinux", .arguments,
                .logging,
            ], swiftSettings: strict, linkerSettings: selfContained),
        .executableTarget(
            name: "apus-cni", dependencies: ["CNI", "Handover", "LinuxNetwork"], swiftSettings: strict,
            linkerSettings: standalone),
        .executableTarget(
            name: "apus-sockets", dependencies: ["Addressing", "Handover", "LinuxNetwork", "CLinux"],
            swiftSettings: strict, linkerSettings: standalone),

        .executableTarget(
            name: "test-apiserver", dependencies: ["TestAPIServer", .arguments], swiftSettings: strict),

        // Measures; in no product of the list above, built only by its own name.
        .executableTarget(
            name: "apus-bench",
            dependencies: [
                "Addressing", "Controller", "Discovery", "Identity", "IstioAPI", "Mesh", "ObjectSource", .protobuf,
                .grpcCore, .grpcProtobuf, .grpcTransport, .logging,
            ], swiftSettings: strict),

        // MARK: Tests
        .testTarget(name: "ArchitectureTests", swiftSettings: strict),
        .testTarget(
            name: "EndToEndTests",
            dependencies: [
                "LocalCluster", "Addressing", "Handover", "Kubernetes", "LinuxNetwork", "Identity", "Mesh",
                "TestAPIServer", .crypto,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "LocalClusterTests", dependencies: ["LocalCluster", "Addressing", "CNI", "LinuxNetwork", "Netlink"],
            swiftSettings: strict),
        .testTarget(
            name: "IdentityTests",
            dependencies: [
                "Addressing", "Identity", "IstioAPI", "Mesh", .x509, .crypto, .asn1, .jwt, .grpcCore, .grpcTransport,
                .protobuf, .logging,
            ], swiftSettings: strict),
        .testTarget(name: "CNITests", dependencies: ["CNI"], swiftSettings: strict),
        // Runs the program itself, which lies beside the tests once everything is built.
        .testTarget(
            name: "CNIPluginTests", dependencies: ["CLinux", "CNI", "Handover", "LinuxNetwork"], swiftSettings: strict),
        .testTarget(
            name: "ControllerTests",
            dependencies: [
                "Addressing", "Controller", "Discovery", "Handover", "Identity", "IstioAPI", "Kubernetes",
                "LinuxNetwork",
                "Mesh", "ObjectSource", "Observability", "TestAPIServer", "TestSupport", .protobuf, .grpcCore,
                .grpcTransport, .x509,
                .crypto, .asn1, .jwt,
                .nioCore, .nioPosix, .nioSSL, .logging,
            ], swiftSettings: strict),
        .testTarget(
            name: "DiscoveryTests",
            dependencies: [
                "Addressing", "Discovery", "Identity", "IstioAPI", "Mesh", .protobuf, .grpcCore, .grpcTransport,
                .logging,
            ], swiftSettings: strict),
        .testTarget(name: "ObjectSourceTests", dependencies: ["ObjectSource"], swiftSettings: strict),
        .testTarget(
            name: "KubernetesTests",
            dependencies: [
                "Addressing", "Kubernetes", "ObjectSource", "Observability", "TestSupport", .httpClient, .nioCore,
                .nioPosix, .nioHTTP1, .nioSSL, .x509, .crypto, .asn1, .logging,
            ], swiftSettings: strict),
        .testTarget(
            name: "TestAPIServerTests", dependencies: ["Kubernetes", "ObjectSource", "TestAPIServer", "TestSupport"],
            swiftSettings: strict),
        .testTarget(name: "HandoverTests", dependencies: ["Handover"], swiftSettings: strict),
        .testTarget(name: "ReferenceTests", swiftSettings: strict),
        .testTarget(name: "TestSupportTests", dependencies: ["TestSupport"], swiftSettings: strict),
        // The chart, by Helm as a library in a Python environment of the build's own.
        .testTarget(
            name: "DeployTests", dependencies: ["Kubernetes", "TestAPIServer"], exclude: ["containers.sh"],
            swiftSettings: strict),
        .testTarget(name: "AddressingTests", dependencies: ["Addressing"], swiftSettings: strict),
        .testTarget(name: "DNSTests", dependencies: ["Addressing", "DNS", "Mesh"], swiftSettings: strict),
        .testTarget(
            name: "LinuxNetworkTests", dependencies: ["Addressing", "LinuxNetwork", "CLinux"], swiftSettings: strict),
        .testTarget(
            name: "ZtunnelTests",
            dependencies: [
                "Addressing", "DNS", "HBONE", "Handover", "Identity", "LinuxNetwork", "Mesh", "Netlink",
                "Observability", "Redirection", "TLSEngine", "TestSupport", "Ztunnel", .x509, .crypto,
                .asn1, .logging,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "NetlinkTests", dependencies: ["Addressing", "LinuxNetwork", "Netlink", "CNftables"],
            swiftSettings: strict),
        .testTarget(
            name: "RedirectionTests",
            dependencies: ["Addressing", "LinuxNetwork", "Netlink", "Redirection", "CNftables"], swiftSettings: strict),
        // With a real container runtime: needs root, containerd and runc.
        .testTarget(
            name: "ContainerRuntimeTests",
            dependencies: [
                "Addressing", "CLinux", "LinuxNetwork", "LocalCluster", .crypto, .protobuf, .grpcCore, .grpcProtobuf,
                .grpcTransport,
            ], exclude: ["Protos"], resources: [.copy("Resources")], swiftSettings: strict),
        .testTarget(name: "MeshTests", dependencies: ["Addressing", "Mesh"], swiftSettings: strict),
        .testTarget(
            name: "ObservabilityTests",
            dependencies: ["LinuxNetwork", "Observability", .logging, .nioCore, .nioPosix], swiftSettings: strict),
        // Runs the program; depending on it would pass its linker flags on.
        .testTarget(
            name: "KeeperTests", dependencies: ["Addressing", "Handover", "LinuxNetwork", "CLinux", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "TLSEngineTests", dependencies: ["TLSEngine", "Mesh", .x509, .crypto, .asn1], swiftSettings: strict),
        .testTarget(
            name: "HBONETests",
            dependencies: [
                "Addressing", "HBONE", "LinuxNetwork", "Mesh", "TLSEngine", .nioCore, .nioHPACK, .x509, .crypto, .asn1,
            ], swiftSettings: strict),
        // Replays the corpus of the fuzzers through their targets.
        .testTarget(name: "FuzzTests", dependencies: fuzzed, swiftSettings: strict),
        .testTarget(
            name: "NodeAgentTests",
            dependencies: [
                "Addressing", "CNI", "DNS", "Handover", "Kubernetes", "LinuxNetwork", "Netlink", "NodeAgent",
                "ObjectSource", "Observability", "Redirection", "TestAPIServer", "TestSupport", .logging,
            ], swiftSettings: strict),
    ]
)

// Some of the tests alone, without what only the others depend on: for builds with a sanitizer
// (`make sanitize`) and for the fuzzers (`make fuzz`).
if let chosen = Context.environment["APUS_TESTS"]?.split(separator: ",") {
    package.targets.removeAll { $0.type == .test && !chosen.contains(Substring($0.name)) }
}
