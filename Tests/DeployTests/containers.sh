#!/usr/bin/env bash
# containers.sh FOLDER PROGRAMS: runs the containers that FOLDER/containers names, one a line (name, then the words of
# `ctr run` for its capabilities and mounts, then its command), under a containerd of its own with the runtime's default
# seccomp filter and a read-only root. The image is made of PROGRAMS and the libraries they load. Each one's log is
# FOLDER/NAME.log. They run until FOLDER/done is there, or for a minute. Nothing is left running.
set -euo pipefail
folder=$1 programs=$2
root=$folder/rootfs
mkdir -p "$root"/{usr/local/bin,proc,sys,dev,etc,run,var,tmp,host,lib64} "$folder"/{root,state}
for program in apus apus-cni apus-sockets; do
    cp -L "$programs/$program" "$root/usr/local/bin/"
done
while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done < <(ldd "$programs/apus" | grep -o '/[^ ]*')
cat >"$folder/config.toml" <<EOF
version = 2
root = "$folder/root"
state = "$folder/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$folder/containerd.sock"
EOF
# A process namespace of its own stands for the node's: its first process is there to be looked at, and takes all with it.
unshare --pid --fork --mount --mount-proc --kill-child containerd -c "$folder/config.toml" >"$folder/containerd.log" 2>&1 &
runtime=$!
trap 'kill -KILL $runtime 2>/dev/null; wait 2>/dev/null' EXIT
pause() { read -rt 0.1 <> <(:) || true; }
deadline=$((SECONDS + 60))
until [ -S "$folder/containerd.sock" ] && inner=$(cat "/proc/$runtime/task/$runtime/children") && [ -n "$inner" ]; do
    [ $SECONDS -lt $deadline ] && kill -0 $runtime || exit 1
    pause
done
ids=()
while read -r name words; do
    # shellcheck disable=SC2086
    nsenter -t ${inner% } -m -p ctr -a "$folder/containerd.sock" run --rm --seccomp --read-only --rootfs \
        $words >"$folder/$name.log" 2>&1 </dev/null &
    ids+=($!)
done <"$folder/containers"
until [ -e "$folder/done" ] || [ $SECONDS -ge $deadline ]; do pause; done
# Ended as kubelet does it, so that the runtime takes its cgroups away again.
for id in "${ids[@]}"; do kill -TERM "$id" 2>/dev/null || true; done
until=$((SECONDS + 15))
for id in "${ids[@]}"; do
    while kill -0 "$id" 2>/dev/null && [ $SECONDS -lt $until ]; do pause; done
done
