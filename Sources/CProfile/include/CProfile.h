/// Where the threads of this process spend processor time, as samples of their stacks. What runs in a signal handler is
/// C, where nothing allocates, locks or calls into a runtime behind one's back.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Frames kept of one stack: the innermost ones.
enum { APUS_PROFILE_DEPTH = 64 };

/// Samples the running thread `frequency` times a second of the whole process's processor time, until the last
/// apus_profile_take. One at a time.
/// @param capacity words for the samples between two calls of apus_profile_take; twice as many are mapped.
/// @return 0, or -1 with errno: EBUSY when one is running.
int apus_profile_start(size_t capacity, unsigned int frequency);

/// Copies what was written since the call before, at most `room` words, and goes on, or ends it all when `last`. Each
/// sample is a word with the number of its frames and then so many program counters: where the thread was, and the
/// return addresses of its callers, innermost first. A number of zero ends the samples early.
/// @return how many words were copied; in `*lost` the samples for which there was no room.
size_t apus_profile_take(uint64_t *words, size_t room, uint64_t *lost, bool last);

/// The name that a mangled symbol of Swift stands for, to be freed by the caller; NULL when it is no such symbol.
char *apus_demangle(const char *symbol);
