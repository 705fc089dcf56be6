#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

int apus_setns(int fd, int nstype) { return setns(fd, nstype); }
int apus_unshare(int flags) { return unshare(flags); }
int apus_newnet(void) { return CLONE_NEWNET; }
int apus_clone_newnet(void) { return unshare(CLONE_NEWNET); }
int apus_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    return accept4(fd, address, length, flags);
}
ssize_t apus_receive_datagram(int fd, void *bytes, size_t size, struct sockaddr_storage *source, socklen_t *length,
                              uint8_t destination[16], int *family) {
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    _Alignas(struct cmsghdr) char control[128];
    struct msghdr message = {
        .msg_name = source, .msg_namelen = sizeof *source, .msg_iov = &part, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof control,
    };
    ssize_t count = recvmsg(fd, &message, MSG_TRUNC);
    *family = 0;
    *length = message.msg_namelen;
    if (count < 0)
        return count;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
        if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(item), sizeof info);
            memcpy(destination, &info.ipi_addr, 4);
            *family = AF_INET;
        } else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(item), sizeof info);
            memcpy(destination, &info.ipi6_addr, 16);
            *family = AF_INET6;
        }
    }
    return count;
}
ssize_t apus_send_datagram(int fd, const void *bytes, size_t size, const struct sockaddr *to, socklen_t length,
                           const uint8_t *source, int family) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
    _Alignas(struct cmsghdr) char control[128] = {0};
    struct msghdr message = {
        .msg_name = (void *)to, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
    };
    struct cmsghdr *item = (struct cmsghdr *)control;
    if (family == AF_INET) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, source, 4);
        item->cmsg_level = IPPROTO_IP;
        item->cmsg_type = IP_PKTINFO;
        item->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(item), &info, sizeof info);
        message.msg_controllen = CMSG_SPACE(sizeof info);
    } else {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, source, 16);
        item->cmsg_level = IPPROTO_IPV6;
        item->cmsg_type = IPV6_PKTINFO;
        item->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(item), &info, sizeof info);
        message.msg_controllen = CMSG_SPACE(sizeof info);
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}
int apus_pipe2(int fds[2], int flags) { return pipe2(fds, flags); }
ssize_t apus_splice(int in, int out, size_t length, unsigned int flags) {
    return splice(in, NULL, out, NULL, length, flags);
}
int apus_spawn_close_from(posix_spawn_file_actions_t *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}
int apus_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int apus_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}
int apus_openat(int folder, const char *path, int flags, mode_t mode) {
    return openat(folder, path, flags, mode);
}
int apus_openat2_in_root(int root, const char *path, uint64_t flags) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}
int apus_ioctl_int(int fd, unsigned long request, int *value) { return ioctl(fd, request, value); }
int apus_fcntl(int fd, int command, int argument) { return fcntl(fd, command, argument); }
void apus_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
int apus_gettid(void) { return (int)syscall(SYS_gettid); }
int apus_mount(const char *source, const char *target, const char *type, unsigned long flags) {
    return mount(source, target, type, flags, NULL);
}
int apus_umount_detach(const char *target) { return umount2(target, MNT_DETACH); }

bool apus_is_nsfs(int fd) {
    struct statfs info;
    return fstatfs(fd, &info) == 0 && info.f_type == NSFS_MAGIC;
}
int apus_namespace_type(int fd) { return ioctl(fd, NS_GET_NSTYPE); }

int apus_peer_credentials(int fd, int32_t *pid, uint32_t *uid, uint32_t *gid) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
    *pid = credentials.pid;
    *uid = credentials.uid;
    *gid = credentials.gid;
    return 0;
}

enum { most_descriptors = 253 }; // SCM_MAX_FD

ssize_t apus_send_descriptors(int fd, const void *bytes, size_t length, const int *descriptors, size_t count) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(most_descriptors * sizeof(int))];
    } control;
    if (count > most_descriptors) {
        errno = EINVAL;
        return -1;
    }
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t apus_receive_descriptors(
    int fd, void *bytes, size_t length, int *descriptors, size_t capacity, size_t *count, bool *truncated) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(most_descriptors * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    *count = 0;
    *truncated = false;
    ssize_t received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (received < 0) return received;
    *truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t got = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < got; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof descriptor);
            if (*count < capacity) {
                descriptors[(*count)++] = descriptor;
            } else {
                close(descriptor);
                *truncated = true;
            }
        }
    }
    return received;
}

int apus_bind_netlink(int fd) {
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

ssize_t apus_receive_netlink(int fd, void *bytes, size_t length, int32_t *nsid) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int32_t))];
    } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    *nsid = -1;
    ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT);
    if (received < 0) return received;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_NETLINK || header->cmsg_type != NETLINK_LISTEN_ALL_NSID) continue;
        memcpy(nsid, CMSG_DATA(header), sizeof *nsid);
    }
    return received;
}

int apus_allowed_processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

int apus_close_from(int first) { return (int)syscall(SYS_close_range, (unsigned)first, ~0U, 0U); }

void apus_trim_heap(void) { malloc_trim(0); }
