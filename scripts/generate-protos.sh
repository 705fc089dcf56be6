#!/bin/sh
# Generates Sources/IstioAPI/Generated from Protos/, and what the tests say to a container runtime from a .proto of
# their own. Run by hand after an edit of a .proto; the result is committed, so that a build needs neither protoc nor its
# plugins.
#
# Needs Debian's protobuf-compiler; the Swift plugins are built from the packages this one depends on already.
# CONFIGURATION=debug (the default) shares the build directory of everyday builds; release works as well.
set -eu

cd "$(dirname "$0")/.."
configuration=${CONFIGURATION:-debug}
output=Sources/IstioAPI/Generated

command -v protoc >/dev/null || {
    echo "generate-protos: protoc not found; install the package protobuf-compiler" >&2
    exit 1
}
for plugin in protoc-gen-swift protoc-gen-grpc-swift-2; do
    swift build -c "$configuration" --product "$plugin"
done
plugins=$(swift build -c "$configuration" --show-bin-path)

mkdir -p "$output"
rm -f "$output"/*.swift
protoc -I Protos \
    --plugin=protoc-gen-swift="$plugins/protoc-gen-swift" \
    --plugin=protoc-gen-grpc-swift="$plugins/protoc-gen-grpc-swift-2" \
    --swift_out="$output" --swift_opt=Visibility=Public \
    Protos/workload.proto Protos/security.proto Protos/certificate.proto Protos/discovery.proto
protoc -I Protos \
    --plugin=protoc-gen-grpc-swift="$plugins/protoc-gen-grpc-swift-2" \
    --grpc-swift_out="$output" --grpc-swift_opt=Visibility=Public \
    Protos/certificate.proto Protos/discovery.proto
ls "$output"

tests=Tests/ContainerRuntimeTests
mkdir -p "$tests/Generated"
rm -f "$tests/Generated"/*.swift
protoc -I "$tests/Protos" \
    --plugin=protoc-gen-swift="$plugins/protoc-gen-swift" \
    --plugin=protoc-gen-grpc-swift="$plugins/protoc-gen-grpc-swift-2" \
    --swift_out="$tests/Generated" --grpc-swift_out="$tests/Generated" --grpc-swift_opt=Server=false \
    "$tests/Protos/cri.proto"
ls "$tests/Generated"
