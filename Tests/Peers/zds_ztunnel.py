"""A ztunnel that speaks plain ZDS and makes its own sockets.

    python3 zds_ztunnel.py PATH            says hello, acknowledges everything, tells line by line what it was told, and ends
                                           after `snapshot_sent` or with a failure when the control side breaks the protocol
    python3 zds_ztunnel.py PATH --driven   told what to do by lines of JSON on standard input, each answered by one

    {"op": "connect", "as": "z"}           connects under a name of the test's choice and says hello
    {"op": "next", "as": "z"}              the next message
    {"op": "answer", "as": "z", "error"}   the answer to it
    {"op": "silent", "as": "z"}            whether no message comes within 300 ms
    {"op": "close", "as": "z"}             ends the connection
    {"op": "closed", "as": "z"}            waits until the control side has ended it
"""

import fcntl
import json
import os
import select
import socket
import sys

import zds

NS_GET_NSTYPE = 0xB703
CLONE_NEWNET = 0x40000000


def connect(path):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.settimeout(15)
    peer.connect(path)
    peer.send(zds.hello())
    return peer


def receive(peer):
    """What a message says, in words; a ztunnel's own checks come before."""
    data, descriptors, flags, _ = socket.recv_fds(peer, 1024, 16, socket.MSG_CMSG_CLOEXEC)
    try:
        if not data:
            raise ConnectionError("the control side closed the connection")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("the message is longer than a ztunnel's buffer")
        request = zds.read_request(data)
        told = {"message": request[0]}
        if request[0] == "add":
            told |= {"uid": request[1], "name": request[2], "namespace": request[3], "sa": request[4]}
            told |= {"extra": request[5], "descriptors": len(descriptors)}
            if len(descriptors) == 1:
                told["isNetns"] = fcntl.ioctl(descriptors[0], NS_GET_NSTYPE) == CLONE_NEWNET
                told["inode"] = os.fstat(descriptors[0]).st_ino
        elif descriptors:
            raise ValueError(f"descriptors came with {request[0]}")
        elif len(request) > 1:
            told["uid"] = request[1]
        return told
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def follow(path):
    peer = connect(path)
    while True:
        told = receive(peer)
        print(json.dumps(told), flush=True)
        peer.send(zds.response())
        if told["message"] == "snapshot_sent":
            return


def drive(path):
    peers = {}

    def do(order):
        op, name = order["op"], order["as"]
        if op == "connect":
            peers[name] = connect(path)
            return {}
        peer = peers[name]
        if op == "next":
            return receive(peer)
        if op == "answer":
            peer.send(zds.response(order.get("error", "")))
            return {}
        if op == "silent":
            return {"silent": not select.select([peer], [], [], 0.3)[0]}
        if op == "close":
            peer.close()
            return {}
        if op == "closed":
            return {"closed": peer.recv(1024) == b""}
        raise ValueError(f"no such op: {op}")

    for line in sys.stdin:
        try:
            told = do(json.loads(line))
        except Exception as error:  # told to the test, which fails with it
            told = {"failure": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[2:] == ["--driven"]:
        drive(sys.argv[1])
    else:
        try:
            follow(sys.argv[1])
        except (ConnectionError, ValueError) as error:
            sys.exit(str(error))
