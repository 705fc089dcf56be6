@_silgen_name("apus_fuzz_xds")
func subject(_ data: UnsafePointer<UInt8>?, _ count: Int)

@_cdecl("LLVMFuzzerTestOneInput")
public func one(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    subject(data, count)
    return 0
}
