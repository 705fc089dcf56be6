"""`apus controller` as a process over a folder of objects, and tokens for those who connect to it."""

import base64
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
import uuid

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from node import eventually

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1, topology.istio.io/subzone: s1}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00:96::1"]
  ipFamilies: [IPv4, IPv6]
  trafficDistribution: PreferClose
  ports:
    - {name: http-main, port: 80, targetPort: 8080}
    - {name: tls-side, port: 443, targetPort: secure}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web, version: v2}
spec:
  serviceAccountName: web
  nodeName: n1
  containers: [{name: main, ports: [{name: secure, containerPort: 8443}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web, nodeName: n2, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: shop}
spec: {serviceAccountName: job, nodeName: n2}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guests, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: ALLOW
  rules:
    - from:
        - source: {principals: ["cluster.local/ns/shop/sa/*", "*/sa/admin", "a/ns/b/sa/c", "*"], namespaces: [shop]}
        - source: {notIpBlocks: [10.9.0.0/16]}
      to: [{operation: {ports: ["8080", "8443"]}}]
    - when: [{key: source.namespace, notValues: ["bad*"]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""


def report(name, node, addresses, ready=True, captured=False, phase="Running"):
    """What a node says of a pod."""
    annotations = {"ambient.istio.io/redirection": "enabled"} if captured else {}
    return json.dumps({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations}, "spec": {"nodeName": node},
        "status": {"phase": phase, "podIPs": [{"ip": address} for address in addresses],
                   "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}})


class Plane:
    def __init__(self, program, folder):
        self.program, self.folder, self.process = program, folder, None
        self.listen = "127.0.0.1:0"
        for name in ["source", "status"]:
            os.makedirs(f"{folder}/{name}", exist_ok=True)
        self.write("source", "mesh.yaml", MESH)
        self.write("status", "shop.web-1.kubelet.yaml", report("web-1", "n1", ["10.0.0.1", "fd00::1"], captured=True))
        self.write("status", "shop.web-2.kubelet.yaml", report("web-2", "n2", ["10.0.0.2"], ready=False))

    def write(self, kind, name, text):
        with open(f"{self.folder}/{kind}/.{name}", "w") as file:
            file.write(text)
        os.rename(f"{self.folder}/{kind}/.{name}", f"{self.folder}/{kind}/{name}")

    def remove(self, kind, name):
        os.remove(f"{self.folder}/{kind}/{name}")

    def start(self):
        begun = len(self.text())
        self.log = open(f"{self.folder}/controller.log", "a")
        self.process = subprocess.Popen(
            [self.program, "controller", "--source", f"{self.folder}/source", "--status", f"{self.folder}/status",
             "--state", f"{self.folder}/state", "--listen", self.listen, "--admin-address", "127.0.0.1:0"],
            stdout=self.log, stderr=self.log)
        found = eventually("the controller listens", lambda: re.search(
            r"listening.*?(127\.0\.0\.1:[1-9]\d*)", self.text()[begun:]))
        self.listen = found.group(1)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, error, trace):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        if error:
            print(self.text()[-6000:])

    def text(self):
        try:
            with open(f"{self.folder}/controller.log") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    @property
    def root(self):
        with open(f"{self.folder}/state/root-cert.pem") as file:
            return file.read()

    def token(self, node="n1", begins=0, ends=3600, **claims):
        """A token as the controller issues them, by its own key: what a leaked key or a wrong clock would make too."""
        with open(f"{self.folder}/state/token.key", "rb") as file:
            key = load_pem_private_key(file.read(), None)
        now = int(time.time())
        body = {"iss": "apus", "aud": ["istio-ca"], "sub": "system:serviceaccount:istio-system:ztunnel",
                "iat": now + begins, "nbf": now + begins, "exp": now + ends, "jti": str(uuid.uuid4()),
                "kubernetes.io": {"namespace": "istio-system", "node": {"name": node},
                                  "serviceaccount": {"name": "ztunnel"}}, **claims}

        def text(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        head = text(json.dumps({"alg": "ES256", "typ": "JWT"}).encode()) + b"." + text(json.dumps(body).encode())
        r, s = decode_dss_signature(key.sign(head, ec.ECDSA(hashes.SHA256())))
        return (head + b"." + text(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()
