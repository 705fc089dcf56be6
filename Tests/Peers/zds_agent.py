"""The node agent's end of ztunnel.sock, as istio-cni speaks it, driven by lines of JSON on standard input, each answered
by one on standard output.

    python3 zds_agent.py PATH

    {"op": "accept"}                                           a ztunnel connects and says hello -> its fields
    {"op": "add", "uid", "name", "namespace", "sa", "netns"}   netns: a path -> {"error": "" or the refusal}
    {"op": "keep", "uid"}  {"op": "del", "uid"}  {"op": "snapshot"}
    {"op": "raw", "hex", "paths": [...]}                       any bytes with any descriptors
    {"op": "capture", "netns"}                                 Istio's rules in a pod
    {"op": "close"}                                            ends the connection
    {"op": "closed"}                                           waits until ztunnel has ended it
"""

import json
import os
import socket
import sys

import netns
import zds

LIMIT = 15


class Agent:
    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(4)
        self.listener.settimeout(LIMIT)
        self.peer = None

    def accept(self):
        if self.peer:
            self.peer.close()
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(LIMIT)
        first = self.peer.recv(1024)
        return {"hello": first.hex(), "fields": {str(k): v for k, v in zds.read_hello(first).items()}}

    def ask(self, message, paths=()):
        descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
        try:
            socket.send_fds(self.peer, [message], descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        answer = self.peer.recv(1024)
        if not answer:
            return {"closed": True}
        return {"error": zds.read_response(answer)}

    def closed(self):
        while self.peer.recv(1024):
            pass
        return {"closed": True}

    def do(self, order):
        op = order["op"]
        if op == "accept":
            return self.accept()
        if op == "add":
            message = zds.add(order["uid"], order["name"], order["namespace"], order["sa"])
            return self.ask(message, [order["netns"]])
        if op == "keep":
            return self.ask(zds.keep(order["uid"]))
        if op == "del":
            return self.ask(zds.delete(order["uid"]))
        if op == "snapshot":
            return self.ask(zds.snapshot_sent())
        if op == "raw":
            return self.ask(bytes.fromhex(order["hex"]), order.get("paths", []))
        if op == "capture":
            descriptor = os.open(order["netns"], os.O_RDONLY | os.O_CLOEXEC)
            try:
                netns.capture(descriptor)
            finally:
                os.close(descriptor)
            return {}
        if op == "close":
            self.peer.close()
            self.peer = None
            return {}
        if op == "closed":
            return self.closed()
        raise ValueError(f"no such op: {op}")


def main():
    agent = Agent(sys.argv[1])
    print(json.dumps({"listening": sys.argv[1]}), flush=True)
    for line in sys.stdin:
        try:
            answer = agent.do(json.loads(line))
        except Exception as error:  # told to the test, which fails with it
            answer = {"failure": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
