#!/bin/sh
# containerd.sh PRIVATE CONFIG LIFELINE: runs containerd so that nothing of it can stay behind.
#
# PRIVATE   an empty folder below /run/apus; a tmpfs is mounted on it that nobody else sees, for root and state
# CONFIG    containerd's configuration
# LIFELINE  a FIFO whose other end the test holds; a line in it, or its end, ends everything here
#
# Two mount namespaces: in the outer one, that this shell stays in, the sandboxes' network namespaces can be seen as on a
# node (an agent is put into it); the inner one has a pid namespace too, whose end takes every container with it.
set -eu
[ "${APUS_RUNTIME_STAGE:-}" = outer ] ||
    APUS_RUNTIME_STAGE=outer exec unshare --mount --propagation private sh "$0" "$@"
private=$1 config=$2 lifeline=$3

# Places that containerd and libcni do not let one choose: the shims' sockets, and results of plugins. Of what is there
# on this machine only /run/apus is carried over, where the sockets of the mesh are.
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir /var/lib/cni /var/lib/apus
mount --bind /run/apus /var/lib/apus
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/apus /run/containerd
mount --move /var/lib/apus /run/apus

mount -t tmpfs -o mode=711,size=1g tmpfs "$private"
# What is mounted in this folder in one of the two namespaces is seen in both.
netns=$private/state/io.containerd.grpc.v1.cri/netns
mkdir -p "$netns"
mount --bind "$netns" "$netns"
mount --make-shared "$netns"

# The first process of the pid namespace waits for the lifeline, or for the end of containerd.
unshare --mount --propagation unchanged --pid --fork --kill-child --mount-proc sh -c '
    trap "exit 1" TERM
    (containerd --config "$1" 3<&-; kill $$) &
    read -r _ <&3
' containerd "$config" 3<"$lifeline"
