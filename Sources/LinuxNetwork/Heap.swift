import CLinux

/// The C library's heap.
public enum Heap {
    /// Gives what is free back to the kernel, wherever it lies. The library does so by itself only at the heap's end, which
    /// after a large change is never reached. Takes some 10 ms for 200 MB, during which threads that share that part of
    /// the heap wait for it.
    public static func giveBack() { apus_trim_heap() }
}
