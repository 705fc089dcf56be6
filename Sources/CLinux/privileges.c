#include "CLinux.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// The system calls that the data path needs: memory, threads, sockets it was given or makes for its own control
// connections, files it reads (token, roots) and writes (log). All else answers EPERM: no exec, no namespaces, no
// mounts, no ptrace, no bpf, no keys, no modules.
static const int allowed[] = {
    // memory and threads
    SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_brk, SYS_futex, SYS_clone3, SYS_clone,
    SYS_set_robust_list, SYS_get_robust_list, SYS_rseq, SYS_set_tid_address, SYS_gettid, SYS_getpid, SYS_getppid,
    SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_getparam, SYS_sched_getscheduler,
    SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_exit, SYS_exit_group, SYS_membarrier,
    SYS_prctl, SYS_prlimit64, SYS_getrusage, SYS_getcpu,
    // signals and time
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait, SYS_rt_sigsuspend, SYS_sigaltstack,
    SYS_signalfd4, SYS_tgkill, SYS_restart_syscall, SYS_nanosleep, SYS_clock_nanosleep, SYS_clock_gettime,
    SYS_clock_getres, SYS_gettimeofday, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime,
    SYS_setitimer, // for CPU profiles
    // descriptors and files
    SYS_read, SYS_readv, SYS_pread64, SYS_preadv, SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev, SYS_close,
    SYS_close_range, SYS_dup, SYS_dup3, SYS_fcntl, SYS_ioctl, SYS_lseek, SYS_pipe2, SYS_splice,
    SYS_ppoll, SYS_pselect6, SYS_eventfd2, SYS_epoll_create1, SYS_epoll_ctl,
    SYS_epoll_pwait, SYS_epoll_pwait2, SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch,
    SYS_openat, SYS_newfstatat, SYS_fstat, SYS_statx, SYS_statfs, SYS_fstatfs,
    SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_getdents64, SYS_getcwd,
    SYS_renameat, SYS_renameat2, SYS_unlinkat, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate,
    SYS_fadvise64, SYS_umask,
    // sockets
    SYS_socket, SYS_socketpair, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_connect, SYS_getsockname,
    SYS_getpeername, SYS_getsockopt, SYS_setsockopt, SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_recvfrom,
    SYS_recvmsg, SYS_recvmmsg, SYS_shutdown,
    // what the process may know of itself
    SYS_getrandom, SYS_uname, SYS_sysinfo, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getgroups,
    SYS_getresuid, SYS_getresgid, SYS_capget, SYS_getpgid, SYS_getsid, SYS_getpriority,
#if defined(__x86_64__)
    // older twins of the calls above, which the C library still uses
    SYS_getrlimit, SYS_setrlimit, SYS_time, SYS_dup2, SYS_pipe, SYS_poll, SYS_select, SYS_epoll_create, SYS_epoll_wait,
    SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_rename, SYS_unlink, SYS_getpgrp, SYS_arch_prctl,
#endif
};

static int install_filter(bool may_enter_namespaces) {
    enum { count = sizeof allowed / sizeof allowed[0], head = 4 };
    struct sock_filter program[head + 2 * (count + 1) + 1];
    size_t at = 0;
    program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
#if defined(__x86_64__)
    const uint32_t architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
    const uint32_t architecture = AUDIT_ARCH_AARCH64;
#endif
    program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t index = 0; index < count; index++) {
        program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[index], 0, 1);
        program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    if (may_enter_namespaces) {
        program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setns, 0, 1);
        program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog filter = {.len = (unsigned short)at, .filter = program};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

// What making sockets in pods takes: to enter their namespaces, to mark packets, to speak from foreign addresses.
static const uint32_t socket_maker =
    UINT32_C(1) << CAP_SYS_ADMIN | UINT32_C(1) << CAP_NET_ADMIN | UINT32_C(1) << CAP_NET_RAW;

int apus_drop_privileges(uint32_t uid, bool makes_sockets, const char **step) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct kept[2] = {{0}};
    if (makes_sockets) {
        // No more than is there: what is missing is told at the start, in words, by what needs it.
        struct __user_cap_data_struct had[2] = {{0}};
        *step = "capget";
        if (syscall(SYS_capget, &header, had) != 0) return -1;
        kept[0].permitted = kept[0].effective = had[0].permitted & socket_maker;
        *step = "prctl(PR_SET_KEEPCAPS)";
        if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return -1;
    }
    if (getuid() == 0) {
        // The bounding set can be emptied only while CAP_SETPCAP is there, so it goes first.
        for (int capability = 0; capability <= 63; capability++) {
            *step = "prctl(PR_CAPBSET_DROP)";
            if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) return -1;
        }
        if (uid != 0) {
            *step = "setgroups";
            if (setgroups(0, NULL) != 0) return -1;
            *step = "setresgid";
            if (setresgid(uid, uid, uid) != 0) return -1;
            *step = "setresuid";
            if (setresuid(uid, uid, uid) != 0) return -1;
        }
    }
    *step = "prctl(PR_CAP_AMBIENT_CLEAR_ALL)";
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -1;
    *step = "capset";
    if (syscall(SYS_capset, &header, kept) != 0) return -1;
    *step = "prctl(PR_SET_NO_NEW_PRIVS)";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    *step = "prctl(PR_SET_DUMPABLE)";
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return -1;
    *step = "prctl(PR_SET_SECCOMP)";
    if (install_filter(makes_sockets) != 0) return -1;
    *step = NULL;
    return 0;
}
