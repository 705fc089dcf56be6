"""A ztunnel that speaks plain ZDS and makes its own sockets: connects, says hello without any extension, acknowledges
everything, and tells line by line what it was told.

    python3 zds_ztunnel.py PATH

Ends after `snapshot_sent`, or with a failure when the control side breaks the protocol.
"""

import fcntl
import json
import os
import socket
import sys

import zds

NS_GET_NSTYPE = 0xB703
CLONE_NEWNET = 0x40000000


def main():
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.settimeout(15)
    peer.connect(sys.argv[1])
    peer.send(zds.hello())
    while True:
        data, descriptors, flags, _ = socket.recv_fds(peer, 1024, 16, socket.MSG_CMSG_CLOEXEC)
        if not data:
            sys.exit("the control side closed the connection")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            sys.exit("the message is longer than a ztunnel's buffer")
        request = zds.read_request(data)
        told = {"message": request[0]}
        if request[0] == "add":
            told |= {"uid": request[1], "name": request[2], "namespace": request[3], "sa": request[4]}
            told |= {"extra": request[5], "descriptors": len(descriptors)}
            if len(descriptors) == 1:
                told["isNetns"] = fcntl.ioctl(descriptors[0], NS_GET_NSTYPE) == CLONE_NEWNET
                told["inode"] = os.fstat(descriptors[0]).st_ino
        elif descriptors:
            sys.exit(f"descriptors came with {request[0]}")
        for descriptor in descriptors:
            os.close(descriptor)
        print(json.dumps(told), flush=True)
        peer.send(zds.response())
        if request[0] == "snapshot_sent":
            return


if __name__ == "__main__":
    main()
