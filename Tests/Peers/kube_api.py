"""A small Kubernetes API server: lists in pages, watches with history, merge and JSON patches and server-side apply,
updates with optimistic locking, a status subresource, TokenReview.

    python3 kube_api.py PORT [STATE [KINDS]]

Prints "port N" when it listens. With STATE, objects are read from that file at the start and written to it after every
change, so that it can be killed and started again. Kinds that nobody has made an object of and that are neither in KINDS
nor among the third argument's (plurals, separated by commas) are answered with 404, as definitions that are not installed.

Server-side apply knows owners of conditions, by their type, and of nothing else. Tokens that reviews are to pass are in the
ConfigMap kube-system/tokens: the token's name, and as JSON its audiences, user, groups and extra. Who writes, what and how
is kept in the ConfigMap kube-system/writes, a line a request. Who shows a token that is a name in the ConfigMap
kube-system/away gets no answer, and watches of theirs end.
"""

import base64
import json
import os
import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

KINDS = {"pods", "namespaces", "nodes", "events"}
if len(sys.argv) > 3:
    KINDS |= set(sys.argv[3].split(","))
CLUSTER = {"namespaces", "nodes", "gatewayclasses"}

lock = threading.Lock()
version = 1000
objects = {}  # plural -> {(namespace, name): object}
history = []  # (version, plural, type, object)
watchers = []  # (plural, queue)
owners = {}  # (plural, namespace, name, manager) -> types of conditions
writes = []  # "MANAGER VERB PLURAL NAMESPACE/NAME SUBRESOURCE"
state_file = sys.argv[2] if len(sys.argv) > 2 else None


def load():
    global version
    if state_file and os.path.exists(state_file):
        with open(state_file) as file:
            state = json.load(file)
        version = state["version"]
        for plural, items in state["objects"]:
            objects[plural] = {(o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in items}


def save():
    if state_file:
        with open(state_file + ".new", "w") as file:
            json.dump({"version": version, "objects": [(k, list(v.values())) for k, v in objects.items()]}, file)
        os.rename(state_file + ".new", state_file)


def record(kind, plural, item):
    """Under the lock: gives the object its version and tells it."""
    global version
    version += 1
    item["metadata"]["resourceVersion"] = str(version)
    entry = (version, plural, kind, json.loads(json.dumps(item)))
    history.append(entry)
    for wanted, events in watchers:
        if wanted == plural:
            events.put(entry)
    save()


def merge(target, patch):
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


class Failure(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason = code, reason


def matches(item, selector):
    for part in filter(None, (selector or "").split(",")):
        path, wanted = part.split("=", 1)
        value = item
        for name in path.split("."):
            value = (value or {}).get(name)
        if value != wanted:
            return False
    return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def target(self):
        """plural, namespace, name, subresource, query"""
        url = urlparse(self.path)
        parts = [p for p in url.path.split("/") if p]
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if len(parts) > 2 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        plural = parts[0]
        # Whoever makes an object of a kind has installed it before.
        if plural not in KINDS and plural not in objects and self.command != "POST":
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        name = parts[1] if len(parts) > 1 else None
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        return plural, namespace, name, parts[2] if len(parts) > 2 else None, query

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def is_away(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with lock:
            return token in objects.get("configmaps", {}).get(("kube-system", "away"), {}).get("data", {})

    def serve(self, work):
        if self.is_away():
            self.close_connection = True
            return
        try:
            work(*self.target())
        except Failure as failure:
            self.answer(
                failure.code,
                {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": failure.code,
                 "reason": failure.reason, "message": str(failure)})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def note(self, verb, plural, namespace, name, subresource, query):
        """Under the lock."""
        writes.append(f'{query.get("fieldManager", "-")} {verb} {plural} {namespace}/{name} {subresource or "-"}')

    def find(self, plural, namespace, name):
        item = objects.get(plural, {}).get((namespace, name))
        if item is None:
            raise Failure(404, "NotFound", f'{plural} "{name}" not found')
        return item

    def do_GET(self):
        self.serve(self.get)

    def get(self, plural, namespace, name, _, query):
        if (plural, namespace, name) == ("configmaps", "kube-system", "writes"):
            with lock:
                return self.answer(200, {"metadata": {"name": name}, "data": {"lines": "\n".join(writes)}})
        if name:
            with lock:
                item = json.loads(json.dumps(self.find(plural, namespace, name)))
            return self.answer(200, item)
        if query.get("watch") == "true":
            return self.watch(plural, query)
        with lock:
            at, start = version, 0
            if "continue" in query:
                at, start = json.loads(base64.b64decode(query["continue"]))
            found = [o for (space, _), o in sorted(objects.get(plural, {}).items())
                     if namespace in ("", space) and matches(o, query.get("fieldSelector"))]
            limit = int(query.get("limit", "0")) or len(found)
            more = start + limit < len(found)
            token = base64.b64encode(json.dumps([at, start + limit]).encode()).decode() if more else ""
            page = json.loads(json.dumps(found[start:start + limit]))
        self.answer(200, {"kind": "List", "apiVersion": "v1", "items": page,
                          "metadata": {"resourceVersion": str(at), "continue": token}})

    def watch(self, plural, query):
        events = queue.Queue()
        start = int(query["resourceVersion"])
        with lock:
            for entry in history:
                if entry[1] == plural and entry[0] > start:
                    events.put(entry)
            watchers.append((plural, events))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        last = start
        while True:
            if self.is_away():
                self.close_connection = True
                return
            try:
                number, _, kind, item = events.get(timeout=0.5)
            except queue.Empty:
                with lock:
                    number = last if not events.empty() else version
                kind, item = "BOOKMARK", {"kind": "", "metadata": {"resourceVersion": str(number)}}
            last = number
            if kind != "BOOKMARK" and not matches(item, query.get("fieldSelector")):
                continue
            line = (json.dumps({"type": kind, "object": item}) + "\n").encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()

    def do_POST(self):
        self.serve(self.create)

    def review(self, item):
        with lock:
            tokens = objects.get("configmaps", {}).get(("kube-system", "tokens"), {}).get("data", {})
        known = json.loads(tokens.get(item["spec"]["token"], "null"))
        asked = item["spec"].get("audiences") or ["api"]
        if known and set(asked) & set(known["audiences"]):
            item["status"] = {"authenticated": True, "audiences": [a for a in asked if a in known["audiences"]],
                              "user": {k: known[k] for k in ("username", "groups", "extra") if k in known}}
        else:
            item["status"] = {"authenticated": False, "error": "token is not known"}
        self.answer(201, item)

    def create(self, plural, namespace, _, subresource, query):
        item = self.body()
        if plural == "tokenreviews":
            with lock:
                self.note("create", plural, namespace, "-", subresource, query)
            return self.review(item)
        name = item["metadata"]["name"]
        with lock:
            self.note("create", plural, namespace, name, subresource, query)
            if (namespace, name) in objects.get(plural, {}):
                raise Failure(409, "AlreadyExists", f'{plural} "{name}" already exists')
            if plural not in CLUSTER:
                item["metadata"]["namespace"] = namespace
            item["metadata"].setdefault("uid", f"uid-{version + 1}")
            objects.setdefault(plural, {})[(namespace, name)] = item
            record("ADDED", plural, item)
        self.answer(201, item)

    def do_PUT(self):
        self.serve(self.update)

    def update(self, plural, namespace, name, subresource, query):
        new = self.body()
        with lock:
            self.note("update", plural, namespace, name, subresource, query)
            old = self.find(plural, namespace, name)
            wanted = new["metadata"].get("resourceVersion")
            if wanted is not None and wanted != old["metadata"]["resourceVersion"]:
                raise Failure(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
            new["metadata"]["uid"] = old["metadata"]["uid"]
            objects[plural][(namespace, name)] = new
            record("MODIFIED", plural, new)
        self.answer(200, new)

    def apply(self, plural, namespace, name, subresource, query, change):
        """Under the lock."""
        manager = query["fieldManager"]
        old = objects.get(plural, {}).get((namespace, name))
        if old is None:
            if subresource:
                raise Failure(404, "NotFound", f'{plural} "{name}" not found')
            old = {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{version + 1}"}}
        if subresource == "status":
            mine = change.get("status", {}).get("conditions", [])
            kept = owners.get((plural, namespace, name, manager), set())
            types = {c["type"] for c in mine}
            conditions = [c for c in old.get("status", {}).get("conditions", []) if c["type"] not in kept | types]
            owners[(plural, namespace, name, manager)] = types
            return merge(old, {"status": {**change["status"], "conditions": conditions + mine}})
        return merge(old, change)

    def do_PATCH(self):
        self.serve(self.patch)

    def patch(self, plural, namespace, name, subresource, query):
        change = self.body()
        with lock:
            self.note("patch", plural, namespace, name, subresource, query)
            isApply = self.headers["Content-Type"] == "application/apply-patch+yaml"
            old = None if isApply else self.find(plural, namespace, name)
            if isApply:
                new = self.apply(plural, namespace, name, subresource, query, change)
            elif self.headers["Content-Type"] == "application/json-patch+json":
                new = json.loads(json.dumps(old))
                for step in change:
                    *way, last = step["path"].strip("/").split("/")
                    place = new
                    for part in way:
                        place = place[part]
                    if step["op"] == "test" and place.get(last) != step["value"]:
                        raise Failure(422, "Invalid", "the server rejected our request due to an error in our request")
                    if step["op"] == "replace":
                        place[last] = step["value"]
            else:
                uid = change.get("metadata", {}).get("uid")
                if uid is not None and uid != old["metadata"]["uid"]:
                    raise Failure(409, "Conflict", "Precondition failed: UID in precondition")
                # Of a status patch neither spec nor labels are taken.
                if subresource == "status":
                    change = {"status": change.get("status", {}),
                              "metadata": {"annotations": change.get("metadata", {}).get("annotations", {})}}
                new = merge(old, change)
            old = objects.get(plural, {}).get((namespace, name))
            if new != old:
                objects.setdefault(plural, {})[(namespace, name)] = new
                record("MODIFIED" if old else "ADDED", plural, new)
        self.answer(200, new)

    def do_DELETE(self):
        self.serve(self.delete)

    def delete(self, plural, namespace, name, _, __):
        with lock:
            item = self.find(plural, namespace, name)
            del objects[plural][(namespace, name)]
            record("DELETED", plural, item)
        self.answer(200, item)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def end_with_parent(parent):
    """Whoever started this may die without a word, and nobody else would end it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
load()
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
print(f"port {server.server_address[1]}", flush=True)
server.serve_forever()
