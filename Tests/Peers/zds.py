"""ZDS (package istio.workload.zds) in bytes, from its field table.

    ZdsHello          1 version (enum: V1 = 1)
    WorkloadInfo      1 name  2 namespace  3 service_account
    AddWorkload       1 uid  2 workload_info
    KeepWorkload      1 uid
    DelWorkload       2 uid
    SnapshotSent      -
    WorkloadRequest   oneof: 1 add  2 del  3 snapshot_sent  5 keep
    Ack               1 error
    WorkloadResponse  oneof: 1 ack
"""

import sys
from pathlib import Path


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(field, body):
    return varint(field << 3 | 2) + varint(len(body)) + body


def text(field, value):
    """proto3 leaves an empty string out."""
    return delimited(field, value.encode()) if value else b""


def hello(version=1):
    return varint(1 << 3) + varint(version)


def workload_info(name, namespace, service_account):
    return text(1, name) + text(2, namespace) + text(3, service_account)


def add(uid, name, namespace, service_account):
    return delimited(1, text(1, uid) + delimited(2, workload_info(name, namespace, service_account)))


def add_without_info(uid):
    return delimited(1, text(1, uid))


def keep(uid):
    return delimited(5, text(1, uid))


def delete(uid):
    return delimited(2, text(2, uid))


def snapshot_sent():
    return delimited(3, b"")


def response(error=""):
    return delimited(1, text(1, error))


def fields(data):
    """(field, wire type, value) one by one; a value is an int or bytes."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, kind, number()
        elif kind == 2:
            length = number()
            if at + length > len(data):
                raise ValueError("cut off")
            yield tag >> 3, kind, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")


def read_hello(data):
    """All fields, so that extensions are seen."""
    return {field: value for field, _, value in fields(data)}


def read_response(data):
    """The error of the ack, empty for yes."""
    acks = [value for field, _, value in fields(data) if field == 1]
    if not acks:
        raise ValueError("no ack")
    errors = [value for field, _, value in fields(acks[-1]) if field == 1]
    return errors[-1].decode() if errors else ""


def read_request(data):
    """("add", uid, name, namespace, service_account, other fields) and the like."""
    for field, _, body in fields(data):
        if field == 1:
            inner = {number: value for number, _, value in fields(body)}
            info = {number: value.decode() for number, _, value in fields(inner.get(2, b""))}
            extra = sorted(set(inner) - {1, 2})
            return "add", inner.get(1, b"").decode(), info.get(1, ""), info.get(2, ""), info.get(3, ""), extra
        if field == 2:
            return "del", {n: v for n, _, v in fields(body)}.get(2, b"").decode()
        if field == 3:
            return ("snapshot_sent",)
        if field == 5:
            return "keep", {n: v for n, _, v in fields(body)}.get(1, b"").decode()
    raise ValueError("no payload")


GOLDEN = {
    "hello": hello(),
    "add": add("uid-1", "reviews-v1-6", "bookinfo", "reviews"),
    "add-long": add("2a9b57b8-2b3b-4ee2-9a3a-0f4f3f2f6f6c", "n" * 150, "kube-system", "default"),
    "add-without-info": add_without_info("uid-1"),
    "keep": keep("uid-1"),
    "del": delete("uid-1"),
    "snapshot-sent": snapshot_sent(),
    "ack": response(),
    "nack": response("failure to start proxy : no"),
}


def main():
    path = Path(__file__).with_name("zds.golden")
    lines = "".join(f"{name} {data.hex()}\n" for name, data in GOLDEN.items())
    if "--write" in sys.argv:
        path.write_text(lines)
    if path.read_text() != lines:
        sys.exit(f"{path} differs from what the field table gives")


if __name__ == "__main__":
    main()
