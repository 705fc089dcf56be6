"""The official Python client against an API server: lists in pages, watches, patches, optimistic locking, 410, tokens.

    python3 kube_client.py KUBECONFIG

Prints one line for each thing that was seen, and "done"; the first thing that is not as it should be ends it with a
traceback. The server must keep a history of no more than some 100 changes.
"""

import sys
import threading

from kubernetes import client, config, dynamic, watch

config.load_kube_config(sys.argv[1])
core = client.CoreV1Api()


def seen(what):
    print(what, flush=True)


def refused(code, work):
    try:
        work()
    except client.ApiException as error:
        assert error.status == code, f"{error.status} instead of {code}: {error.body}"
        return error
    raise AssertionError(f"not refused with {code}")


def config_map(name, **labels):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data={"a": "1"})


core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py")))
refused(409, lambda: core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py"))))
seen("created")

for index in range(7):
    core.create_namespaced_config_map("py", config_map(f"c{index}", parity="odd" if index % 2 else "even"))
names, token = [], None
while True:
    page = core.list_namespaced_config_map("py", limit=3, _continue=token, label_selector="parity")
    assert len(page.items) <= 3
    names += [item.metadata.name for item in page.items]
    token = page.metadata._continue
    if not token:
        break
assert names == [f"c{index}" for index in range(7)], names
assert len(core.list_namespaced_config_map("py", label_selector="parity in (odd),parity!=x").items) == 3
assert len(core.list_namespaced_config_map("py", field_selector="metadata.name=c3").items) == 1
refused(400, lambda: core.list_namespaced_config_map("py", field_selector="data.a=1"))
seen("listed")

# A watch hears of what comes after the list, in order, and only of what it asked for.
version = core.list_namespaced_config_map("py").metadata.resource_version


def change():
    core.create_namespaced_config_map("py", config_map("w", parity="odd"))
    core.patch_namespaced_config_map("w", "py", {"data": {"a": "2"}})
    core.patch_namespaced_config_map("w", "py", {"metadata": {"labels": {"parity": "even"}}})
    core.create_namespaced_config_map("py", config_map("x", parity="odd"))
    core.delete_namespaced_config_map("x", "py")


worker = threading.Timer(0.1, change)
worker.start()
events = []
stream = watch.Watch().stream(
    core.list_namespaced_config_map, "py", resource_version=version, label_selector="parity=odd", timeout_seconds=20)
for event in stream:
    events.append((event["type"], event["object"].metadata.name))
    if len(events) == 5:
        break
worker.join()
expected = [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w"), ("ADDED", "x"), ("DELETED", "x")]
assert events == expected, events
seen("watched")

# A watch ends when its time is over.
assert [e["type"] for e in watch.Watch().stream(
    core.list_namespaced_config_map, "py", resource_version=core.list_namespaced_config_map("py").metadata.resource_version,
    timeout_seconds=1)] == []
seen("ended")

# Optimistic locking: of two who read the same version one is refused.
first = core.read_namespaced_config_map("c0", "py")
second = core.read_namespaced_config_map("c0", "py")
first.data["a"] = "first"
core.replace_namespaced_config_map("c0", "py", first)
second.data["a"] = "second"
refused(409, lambda: core.replace_namespaced_config_map("c0", "py", second))
assert core.read_namespaced_config_map("c0", "py").data == {"a": "first"}
seen("conflict")

# Patches: JSON (a list), strategic merge (the client's own choice for an object), merge and apply by content type.
core.patch_namespaced_config_map("c1", "py", [{"op": "replace", "path": "/data/a", "value": "json"}])
assert core.read_namespaced_config_map("c1", "py").data == {"a": "json"}
refused(422, lambda: core.patch_namespaced_config_map("c1", "py", [{"op": "test", "path": "/data/a", "value": "?"}]))
pod = client.V1Pod(
    metadata=client.V1ObjectMeta(name="p"),
    spec=client.V1PodSpec(containers=[client.V1Container(name="a", image="i:1"), client.V1Container(name="b", image="i:1")]))
core.create_namespaced_pod("py", pod)
core.patch_namespaced_pod("p", "py", {"spec": {"containers": [{"name": "b", "image": "i:2"}]}})
assert [c.image for c in core.read_namespaced_pod("p", "py").spec.containers] == ["i:1", "i:2"]
core.patch_namespaced_pod_status("p", "py", {"status": {"phase": "Running"}, "metadata": {"labels": {"s": "1"}}})
read = core.read_namespaced_pod("p", "py")
assert (read.status.phase, read.metadata.labels) == ("Running", {"s": "1"})
seen("patched")

api = dynamic.DynamicClient(client.ApiClient())
maps = api.resources.get(api_version="v1", kind="ConfigMap")
body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1", "b": "1"}}
maps.server_side_apply(body=body, name="applied", namespace="py", field_manager="one")
body["data"] = {"a": "1"}
maps.server_side_apply(body=body, name="applied", namespace="py", field_manager="one")
assert core.read_namespaced_config_map("applied", "py").data == {"a": "1"}
body["data"] = {"a": "2"}
error = refused(409, lambda: maps.server_side_apply(body=body, name="applied", namespace="py", field_manager="two"))
assert "conflict with" in error.body.decode() if isinstance(error.body, bytes) else error.body, error.body
maps.server_side_apply(body=body, name="applied", namespace="py", field_manager="two", force_conflicts=True)
owners = core.read_namespaced_config_map("applied", "py").metadata.managed_fields
assert [(o.manager, o.operation) for o in owners if "f:data" in o.fields_v1] == [("two", "Apply")], owners
assert maps.get(namespace="py", name="applied").data.a == "2"
seen("applied")

core.create_namespaced_config_map("py", config_map("dry"), dry_run="All")
refused(404, lambda: core.read_namespaced_config_map("dry", "py"))
seen("dry")

# A kind of strangers.
custom = client.CustomObjectsApi()
custom.create_namespaced_custom_object(
    "security.istio.io", "v1", "py", "peerauthentications",
    {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "pa"},
     "spec": {"mtls": {"mode": "STRICT"}}})
custom.patch_namespaced_custom_object(
    "security.istio.io", "v1", "py", "peerauthentications", "pa", {"spec": {"mtls": {"mode": "PERMISSIVE"}}})
listed = custom.list_cluster_custom_object("security.istio.io", "v1beta1", "peerauthentications")
assert [o["spec"]["mtls"]["mode"] for o in listed["items"]] == ["PERMISSIVE"]
seen("custom")

lease = client.CoordinationV1Api()
lease.create_namespaced_lease("py", client.V1Lease(
    metadata=client.V1ObjectMeta(name="l"), spec=client.V1LeaseSpec(holder_identity="me", lease_duration_seconds=15)))
assert lease.read_namespaced_lease("l", "py").spec.holder_identity == "me"
request = client.AuthenticationV1TokenRequest(
    spec=client.V1TokenRequestSpec(audiences=["istio-ca"], expiration_seconds=600))
token = core.create_namespaced_service_account_token("default", "py", request).status.token
review = client.AuthenticationV1Api().create_token_review(
    client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=["istio-ca"])))
assert review.status.authenticated and review.status.user.username == "system:serviceaccount:py:default"
seen("tokens")

# What lies too far back is gone, for watches and for pages.
page = core.list_namespaced_config_map("py", limit=1)
for index in range(300):
    core.patch_namespaced_config_map("c2", "py", {"data": {"a": str(index)}})


def old_watch():
    for _ in watch.Watch().stream(core.list_namespaced_config_map, "py", resource_version="3", timeout_seconds=5):
        pass


refused(410, old_watch)
refused(410, lambda: core.list_namespaced_config_map("py", limit=1, _continue=page.metadata._continue))
seen("expired")

core.delete_namespaced_config_map("c3", "py")
refused(404, lambda: core.read_namespaced_config_map("c3", "py"))
core.delete_namespace("py")
refused(404, lambda: core.read_namespace("py"))
seen("deleted")
print("done")
