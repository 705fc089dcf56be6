/// The capture programs (bpf/capture.bpf.c): loading them through libbpf, and what only a loaded program can do.
/// libbpf is linked whole, so a node needs no library of it.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// A loaded program's descriptor, -1 without one, and the first eight bytes of its hash (BPF_TAG_SIZE).
struct apus_program {
    int descriptor;
    uint8_t tag[8];
};

/// What captures, or else `forged` alone.
struct apus_capture {
    struct apus_program egress, ingress, loopback, probe, line, forged;
    /// The iterator and its map of cookies; -1 where the kernel does not take it.
    int spare, spared;
};

/// Loads the programs that capture. Returns 0, or a negative errno; `log` then holds what libbpf and the verifier said,
/// cut to `size` with a zero at its end. With `error_of_spare` 0 the iterator is loaded as well.
int apus_capture_load(struct apus_capture *capture, int *error_of_spare, char *log, size_t size);

/// Loads the one program that stands behind capture by nf_tables. As above.
int apus_capture_load_forged(struct apus_capture *capture, char *log, size_t size);

/// Closes what was loaded.
void apus_capture_close(struct apus_capture *capture);

/// Marks the sockets with these cookies in the network namespace the calling thread is in. 0 or a negative errno.
/// One call at a time for a capture.
int apus_capture_spare(const struct apus_capture *capture, const uint64_t *cookies, size_t count);
