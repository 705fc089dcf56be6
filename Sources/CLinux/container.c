#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

// A container's own /proc shows its own processes, and /proc/sys is read-only there. The node's is mounted over it, in a
// mount namespace of this process alone, in which what the node mounts later (namespaces of new pods) still appears.
// cgroup paths are read as the node has them: a namespace of cgroups is a thread's, so this comes before there are others.
int apus_use_host_proc(const char *path, const char **step) {
    *step = "make a mount namespace";
    if (syscall(SYS_unshare, CLONE_NEWNS) != 0) return -1;
    *step = "keep mounts from spreading";
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) return -1;
    *step = "mount the node's /proc";
    if (mount(path, "/proc", NULL, MS_BIND | MS_REC, NULL) != 0) return -1;
    *step = "open the node's cgroup namespace";
    int group = open("/proc/1/ns/cgroup", O_RDONLY | O_CLOEXEC);
    if (group < 0) return -1;
    *step = "enter the node's cgroup namespace";
    int result = (int)syscall(SYS_setns, group, CLONE_NEWCGROUP);
    int error = errno;
    close(group);
    errno = error;
    return result;
}
