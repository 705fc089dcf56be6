/// What Swift's Glibc module lacks: calls behind _GNU_SOURCE, variadic calls and struct ucred.
/// Every function is a thin wrapper: the same arguments, the same result, errno as the kernel left it.
#pragma once

#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/un.h>

int apus_setns(int fd, int nstype);
int apus_unshare(int flags);
int apus_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
/// A datagram and the address it was sent to (4 or 16 bytes in `destination`, `*family` 0 where unknown), for which
/// IP_PKTINFO or IPV6_RECVPKTINFO is set; and one sent from an address, by a socket that may speak for it.
ssize_t apus_receive_datagram(int fd, void *bytes, size_t size, struct sockaddr_storage *source, socklen_t *length,
                              uint8_t destination[16], int *family);
ssize_t apus_send_datagram(int fd, const void *bytes, size_t size, const struct sockaddr *to, socklen_t length,
                           const uint8_t *source, int family);
int apus_pipe2(int fds[2], int flags);
ssize_t apus_splice(int in, int out, size_t length, unsigned int flags);
int apus_spawn_close_from(posix_spawn_file_actions_t *actions, int first);
int apus_pidfd_open(pid_t pid);
int apus_pidfd_send_signal(int pidfd, int signal);
int apus_openat(int folder, const char *path, int flags, mode_t mode);
int apus_openat2_in_root(int root, const char *path, uint64_t flags);
int apus_ioctl_int(int fd, unsigned long request, int *value);
int apus_fcntl(int fd, int command, int argument);
int apus_gettid(void);
void apus_name_thread(const char *name);
int apus_clone_newnet(void);
int apus_newnet(void);
int apus_mount(const char *source, const char *target, const char *type, unsigned long flags);
int apus_umount_detach(const char *target);
/// Closes every descriptor from `first` on.
int apus_close_from(int first);
/// Makes the node's /proc, mounted at `path`, this process's own, and enters the node's cgroup namespace. To be called while
/// there is one thread.
/// @return 0, or -1 with errno and in `step` what failed.
int apus_use_host_proc(const char *path, const char **step);

/// The magic number of the file system that namespace files live on.
bool apus_is_nsfs(int fd);
/// The CLONE_NEW* value of a namespace descriptor, or -1.
int apus_namespace_type(int fd);

/// The processors that this process may run on; 0 when the kernel does not say.
int apus_allowed_processors(void);

/// SO_PEERCRED.
int apus_peer_credentials(int fd, int32_t *pid, uint32_t *uid, uint32_t *gid);

/// Neither waits, whatever O_NONBLOCK says: whoever has a copy of a descriptor can change that flag for all.
/// One packet with descriptors: sends `length` bytes and `count` descriptors (at most 253).
ssize_t apus_send_descriptors(int fd, const void *bytes, size_t length, const int *descriptors, size_t count);
/// Receives one packet and up to `capacity` descriptors (close-on-exec). `truncated` tells that bytes or descriptors
/// did not fit; descriptors that did arrive are the caller's in any case.
ssize_t apus_receive_descriptors(
    int fd, void *bytes, size_t length, int *descriptors, size_t capacity, size_t *count, bool *truncated);

/// Binds a netlink socket to an address of the kernel's choice.
int apus_bind_netlink(int fd);
/// Receives one netlink packet without waiting. `*nsid` names the namespace it comes from as the socket's own knows it,
/// or is -1 for its own.
ssize_t apus_receive_netlink(int fd, void *bytes, size_t length, int32_t *nsid);

/// For the data path: gives up everything that is not needed, in the one thread that exists. Empties all five
/// capability sets, sets no_new_privs, makes the process non-dumpable and installs the seccomp filter. When run by
/// root with `uid` other than 0, changes to that user and group first. A process that `makes_sockets` in pods keeps of its
/// capabilities CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW (permitted and effective alone), and may call setns.
/// Returns 0, or -1 with errno and `*step` naming the call that failed.
int apus_drop_privileges(uint32_t uid, bool makes_sockets, const char **step);

/// posix_spawn of `path` with three descriptors as 0, 1 and 2 and no others, no signal blocked or ignored, in a session
/// of its own and in the calling thread's network namespace. Returns 0 or an errno value.
int apus_spawn(const char *path, char *const argv[], char *const envp[], const int streams[3], pid_t *pid);

/// Gives free memory of the heap back to the kernel, also from between what is in use.
void apus_trim_heap(void);
