#define _GNU_SOURCE
#include "CProfile.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

struct recording {
    uint64_t *words;
    size_t capacity;
    // Words handed out to samples, also beyond the capacity.
    atomic_size_t used;
    atomic_ullong lost;
};

// One is written to while the other is read.
static struct recording recordings[2];
static int filling;
// What the handler looks at; NULL while nothing is recorded.
static _Atomic(struct recording *) current;
// Handlers at work.
static atomic_int inside;
static atomic_bool busy;

// The C library's: where the first thread's stack ends.
extern void *__libc_stack_end;

struct registers {
    uintptr_t program_counter, stack, frame;
};

static struct registers interrupted(const void *context) {
    const mcontext_t *machine = &((const ucontext_t *)context)->uc_mcontext;
#if defined(__x86_64__)
    return (struct registers){(uintptr_t)machine->gregs[REG_RIP], (uintptr_t)machine->gregs[REG_RSP],
                              (uintptr_t)machine->gregs[REG_RBP]};
#elif defined(__aarch64__)
    return (struct registers){machine->pc, machine->sp, machine->regs[29]};
#endif
}

// Where the stack that `stack` is in ends: a thread's descriptor lies at the end of its stack, the first thread's stack
// ends where the C library says. 0 for a stack that is neither, of which nothing is read.
static uintptr_t stack_end(uintptr_t stack) {
    const uintptr_t largest = (uintptr_t)1 << 30;
    const uintptr_t ends[] = {(uintptr_t)pthread_self(), (uintptr_t)__libc_stack_end};
    uintptr_t nearest = 0;
    for (int index = 0; index < 2; index++) {
        if (ends[index] > stack && ends[index] - stack < largest && (nearest == 0 || ends[index] < nearest))
            nearest = ends[index];
    }
    return nearest;
}

// The caller's frame pointer and the return address lie side by side at the frame pointer. Code that keeps no frame
// pointer leaves anything in that register: only what lies in the stack, aligned and further out than the one before, is
// followed.
static size_t walk(const struct registers *registers, uint64_t *frames) {
    size_t count = 0;
    frames[count++] = registers->program_counter;
    uintptr_t end = stack_end(registers->stack), frame = registers->frame, least = registers->stack;
    while (count < APUS_PROFILE_DEPTH) {
        // Swift marks the frames of asynchronous functions in the top bits.
        frame &= UINTPTR_MAX >> 4;
        if (frame < least || frame % sizeof(uintptr_t) != 0 || end < 2 * sizeof(uintptr_t) ||
            frame > end - 2 * sizeof(uintptr_t))
            break;
        const uintptr_t *pair = (const uintptr_t *)frame;
        if (pair[1] == 0) break;
        frames[count++] = pair[1];
        least = frame + 2 * sizeof(uintptr_t);
        frame = pair[0];
    }
    return count;
}

static void sample(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    int error = errno;
    atomic_fetch_add(&inside, 1);
    struct recording *into = atomic_load(&current);
    if (into != NULL) {
        struct registers registers = interrupted(context);
        uint64_t frames[APUS_PROFILE_DEPTH];
        size_t count = walk(&registers, frames);
        size_t at = atomic_fetch_add(&into->used, count + 1);
        if (at + count + 1 <= into->capacity) {
            memcpy(into->words + at + 1, frames, count * sizeof(uint64_t));
            into->words[at] = count;
        } else {
            // The words stay taken: whoever comes later has none either, so that what is written has no gap.
            atomic_fetch_add(&into->lost, 1);
        }
    }
    atomic_fetch_sub(&inside, 1);
    errno = error;
}

static int set_timer(long microseconds) {
    struct timeval period = {.tv_sec = microseconds / 1000000, .tv_usec = microseconds % 1000000};
    struct itimerval timer = {.it_interval = period, .it_value = period};
    return setitimer(ITIMER_PROF, &timer, NULL);
}

int apus_profile_start(size_t capacity, unsigned int frequency) {
    if (capacity == 0 || capacity > SIZE_MAX / sizeof(uint64_t) / 2 || frequency == 0 || frequency > 1000000) {
        errno = EINVAL;
        return -1;
    }
    bool free = false;
    if (!atomic_compare_exchange_strong(&busy, &free, true)) {
        errno = EBUSY;
        return -1;
    }
    // The action stays: a signal that is on its way when the timer is stopped would end the process otherwise.
    struct sigaction action = {.sa_sigaction = sample, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&action.sa_mask);
    // All zero, and taken up by the kernel as it is written to.
    size_t size = 2 * capacity * sizeof(uint64_t);
    uint64_t *words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (words != MAP_FAILED && sigaction(SIGPROF, &action, NULL) == 0) {
        for (int index = 0; index < 2; index++) {
            recordings[index].words = words + (size_t)index * capacity;
            recordings[index].capacity = capacity;
            atomic_store(&recordings[index].used, 0);
            atomic_store(&recordings[index].lost, 0);
        }
        filling = 0;
        atomic_store(&current, &recordings[0]);
        if (set_timer(1000000 / (long)frequency) == 0) return 0;
        atomic_store(&current, NULL);
    }
    int error = errno;
    if (words != MAP_FAILED) munmap(words, size);
    atomic_store(&busy, false);
    errno = error;
    return -1;
}

size_t apus_profile_take(uint64_t *words, size_t room, uint64_t *lost, bool last) {
    *lost = 0;
    if (!atomic_load(&busy)) return 0;
    struct recording *done = &recordings[filling], *next = &recordings[1 - filling];
    if (last) set_timer(0);
    atomic_store(&current, last ? NULL : next);
    while (atomic_load(&inside) > 0) sched_yield();
    size_t written = atomic_load(&done->used);
    if (written > done->capacity) written = done->capacity;
    if (written > room) written = room;
    memcpy(words, done->words, written * sizeof(uint64_t));
    *lost = atomic_load(&done->lost);
    if (last) {
        munmap(recordings[0].words, 2 * done->capacity * sizeof(uint64_t));
        atomic_store(&busy, false);
    } else {
        // What a sample without room left unwritten must read as the end.
        memset(done->words, 0, written * sizeof(uint64_t));
        atomic_store(&done->used, 0);
        atomic_store(&done->lost, 0);
        filling = 1 - filling;
    }
    return written;
}

// Of Swift's runtime.
extern char *swift_demangle(const char *name, size_t length, char *buffer, size_t *size, uint32_t flags);

char *apus_demangle(const char *symbol) { return swift_demangle(symbol, strlen(symbol), NULL, NULL, 0); }
