#!/usr/bin/env python3
"""A control plane for measuring: delta xDS over TLS, with as many made-up workloads and services as asked for.

Takes the place of a controller that ztunnels are connected to. What it sends comes on top of what they know already
(delta xDS: nothing is taken back). Told what to do by lines on standard input, answers with lines of JSON:

    listen                  serve; answers once the node is connected
    load                    send everything to the node; answers when its last part is acknowledged
    change COUNT SECONDS    change one workload again and again, at most once per so many seconds
"""
import argparse, json, queue, sys, threading, time
from concurrent import futures

import grpc

ADDRESS = "type.googleapis.com/istio.workload.Address"


# ---- protobuf, as far as needed (Protos/discovery.proto, Protos/workload.proto) ----------------------------------
def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """A text, bytes or message field; a number where `value` is one."""
    if isinstance(value, int): return varint(number << 3) + varint(value)
    if isinstance(value, str): value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """The fields of a message: (number, value) each, in their order."""
    at = 0

    def number():
        nonlocal at
        result = shift = 0
        while True:
            byte = message[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80: return result

    while at < len(message):
        tag = number()
        if tag & 7 == 0: yield tag >> 3, number()
        elif tag & 7 == 2:
            length = number()
            yield tag >> 3, message[at:at + length]
            at += length
        else: raise ValueError(f"wire type {tag & 7}")


# ---- the mesh ----------------------------------------------------------------------------------------------------
def service_name(index): return f"svc{index}.big.svc.cluster.local"


def workload(index, services, revision="v1"):
    """A pod on some other node, behind one of the services. (name, Resource)"""
    uid = f"Kubernetes//Pod/big/app{index // 10}-{index}"
    port = field(1, 80) + field(2, 8080)
    member = field(1, f"big/{service_name(index % services)}") + field(2, field(1, port))
    body = (field(1, f"app{index // 10}-{index}") + field(2, "big") + field(3, bytes([11, index >> 16, index >> 8 & 255, index & 255]))
            + field(5, 1) + field(7, f"app{index // 10}") + field(9, f"far{index % 1000}")
            + field(10, f"app{index // 10}") + field(11, revision) + field(13, f"app{index // 10}")
            + field(18, "Kubernetes") + field(20, uid) + field(22, member))
    return resource(uid, field(1, body))


def service(index):
    name = service_name(index)
    body = (field(1, f"svc{index}") + field(2, "big") + field(3, name)
            + field(4, field(2, bytes([12, index >> 16, index >> 8 & 255, index & 255])))
            + field(5, field(1, 80) + field(2, 8080)))
    return resource(f"big/{name}", field(2, body))


def resource(name, address):
    anything = field(1, ADDRESS) + field(2, address)
    return field(2, field(1, "1") + field(2, anything) + field(3, name))


class ControlPlane(grpc.GenericRpcHandler):
    PART = 5000  # resources in one response, some 1 MB

    def __init__(self, options):
        self.options = options
        made = [service(i) for i in range(options.services)]
        made += [workload(i, options.services) for i in range(options.workloads)]
        self.parts = [b"".join(made[i:i + self.PART]) for i in range(0, len(made), self.PART)]
        self.nonce = 0
        self.node = None  # the queue of responses to the node that is measured
        self.connected, self.answers = threading.Event(), queue.Queue()

    def service(self, call):
        if call.method.endswith("/DeltaAggregatedResources"): return grpc.stream_stream_rpc_method_handler(self.stream)
        return None

    def response(self, type_url, body):
        self.nonce += 1
        nonce = str(self.nonce)
        return nonce, field(1, nonce) + body + field(4, type_url) + field(5, nonce)

    def stream(self, requests, context):
        """Answers first requests with nothing new, and sends the node what it is given."""
        send, seen = queue.Queue(), set()
        is_it = context.peer().startswith(f"ipv4:{self.options.node}:")
        context.add_callback(lambda: send.put(None))

        def read():
            try:
                for message in requests:
                    known = {n: v for n, v in fields(message) if n in (2, 6, 7)}
                    url, nonce = known.get(2, b"").decode(), known.get(6, b"").decode()
                    if 7 in known: print("refused:", known[7][:300], file=sys.stderr, flush=True)
                    if nonce: self.answers.put(nonce) if is_it else None
                    elif url not in seen:
                        seen.add(url)
                        send.put(self.response(url, b"")[1])
                    if is_it and url == ADDRESS and not self.connected.is_set():
                        self.node = send
                        self.connected.set()
            except grpc.RpcError:
                pass
            send.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (message := send.get()) is not None: yield message

    def deliver(self, bodies):
        """Sends responses to the node and waits until the last is acknowledged. Seconds."""
        begun, last = time.monotonic(), None
        for body in bodies:
            last, message = self.response(ADDRESS, body)
            self.node.put(message)
        while self.answers.get(timeout=120) != last: pass
        return time.monotonic() - begun

    # ---- commands ----
    def listen(self):
        identity = lambda message: message
        server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self], options=[("grpc.max_receive_message_length", -1)])
        read = lambda path: open(path, "rb").read()
        credentials = grpc.ssl_server_credentials([(read(self.options.key), read(self.options.certificate))])
        server.add_secure_port(self.options.listen, credentials)
        server.start()
        self.server = server
        if not self.connected.wait(60): raise SystemExit("the node did not connect")
        time.sleep(0.5)  # the other types' first responses
        return {"connected": self.options.node}

    def load(self):
        return {"seconds": self.deliver(self.parts), "workloads": self.options.workloads, "services": self.options.services,
                "bytes": sum(map(len, self.parts))}

    def change(self, count, pause):
        took = []
        for i in range(int(count)):
            next_at = time.monotonic() + float(pause)
            took.append(self.deliver([workload(i, self.options.services, f"v{i + 2}")]))
            time.sleep(max(0, next_at - time.monotonic()))
        return {"changes": len(took), "median_s": sorted(took)[len(took) // 2]}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--listen", required=True)
    a.add_argument("--certificate", required=True)
    a.add_argument("--key", required=True)
    a.add_argument("--node", required=True, help="address of the node that is sent things")
    a.add_argument("--workloads", type=int, default=100_000)
    a.add_argument("--services", type=int, default=10_000)
    plane = ControlPlane(a.parse_args())
    print(json.dumps({"made": True}), flush=True)
    for line in sys.stdin:
        verb, *arguments = line.split()
        print(json.dumps({"listen": plane.listen, "load": plane.load, "change": plane.change}[verb](*arguments)), flush=True)


if __name__ == "__main__":
    main()
