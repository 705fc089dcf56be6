"""Istio's ztunnel as a control plane sees it: its discovery stream, its answers, what it retains, and its calls for
certificates."""

import queue
import threading

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import wire
from wire import ADDRESS, AUTHORIZATION

LIMIT = 20


class RustZtunnel:
    def __init__(self, address, root, token, node="n1", name="istiod.istio-system.svc"):
        self.node, self.token = node, token
        self.channel = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(root.encode()),
            options=[("grpc.ssl_target_name_override", name), ("grpc.max_receive_message_length", 200 << 20),
                     ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0),
                     ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)])
        self.versions = {ADDRESS: {}, AUTHORIZATION: {}}  # what a reconnect tells: name to version
        self.values = {}  # name to message: what is in force
        self.aliases = {}
        self.refuses = set()  # names that it finds fault with
        self.stream = None

    @property
    def metadata(self):
        return [("clusterid", "Kubernetes")] + ([("authorization", f"Bearer {self.token}")] if self.token else [])

    # ---- discovery ----
    def open(self, on_demand=False, names=(), order=(ADDRESS, AUTHORIZATION)):
        """A new stream with the first request of each type."""
        self.outgoing, self.incoming = queue.Queue(), queue.Queue()
        outgoing, incoming = self.outgoing, self.incoming

        def requests():
            while (message := outgoing.get()) is not None:
                yield message

        stub = wire.discovery_service.AggregatedDiscoveryServiceStub(self.channel)
        call = stub.DeltaAggregatedResources(requests(), metadata=self.metadata, wait_for_ready=False)

        def read():
            try:
                for message in call:
                    incoming.put(message)
                incoming.put(None)
            except grpc.RpcError as error:
                incoming.put(error)

        threading.Thread(target=read, daemon=True).start()
        self.stream = call
        for kind in order:
            request = wire.discovery.DeltaDiscoveryRequest(
                type_url=kind, initial_resource_versions=self.versions[kind])
            request.node.id = f"ztunnel~10.1.2.3~ztunnel-{self.node}.istio-system~istio-system.svc.cluster.local"
            for key, value in {"NAME": f"ztunnel-{self.node}", "NAMESPACE": "istio-system",
                               "INSTANCE_IPS": "10.1.2.3", "NODE_NAME": self.node}.items():
                request.node.metadata[key] = value
            if on_demand and kind == ADDRESS:
                request.resource_names_subscribe.extend(["*", *names])
                request.resource_names_unsubscribe.append("*")
                for name in names:
                    request.initial_resource_versions[name] = ""
            outgoing.put(request)

    def response(self, limit=LIMIT):
        """The next response as it came, without an answer to it."""
        try:
            message = self.incoming.get(timeout=limit)
        except queue.Empty:
            raise AssertionError("no response from the control plane") from None
        if message is None or isinstance(message, grpc.RpcError):
            raise StreamOver(message)
        return message

    def apply(self, response):
        """Takes the good ones in; the reasons against the others."""
        faults = []
        for name in response.removed_resources:
            self.versions[response.type_url].pop(name, None)
            self.values.pop(name, None)
        for one in response.resources:
            if one.name in self.refuses:
                faults.append(f"{one.name}: not this one")
                continue
            assert one.resource.type_url == response.type_url, one
            kind = wire.workload.Address if response.type_url == ADDRESS else wire.security.Authorization
            self.values[one.name] = kind.FromString(one.resource.value)
            self.aliases[one.name] = list(one.aliases)
            self.versions[response.type_url][one.name] = one.version
        return faults

    def answer(self, response, faults=()):
        request = wire.discovery.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if faults:
            request.error_detail.message = "; ".join(faults)
        self.outgoing.put(request)

    def take(self, kind=None, limit=LIMIT):
        """The next response, taken in and answered."""
        response = self.response(limit)
        assert kind is None or response.type_url == kind, response
        self.answer(response, self.apply(response))
        return response

    def synchronize(self):
        """The first response of each type."""
        got = [self.take(), self.take()]
        assert {one.type_url for one in got} == {ADDRESS, AUTHORIZATION}, got
        return {one.type_url: one for one in got}

    def ask(self, *names, drop=()):
        self.outgoing.put(wire.discovery.DeltaDiscoveryRequest(
            type_url=ADDRESS, resource_names_subscribe=names, resource_names_unsubscribe=drop))

    def is_silent(self, seconds=0.3):
        try:
            return self.incoming.get(timeout=seconds) and False
        except queue.Empty:
            return True

    def close(self):
        """Ends the stream as a process that dies does: by a reset."""
        self.stream.cancel()
        self.outgoing.put(None)

    # ---- certificates ----
    def certificate(self, identity, seconds=86400, names=None, impersonates=True):
        """(key, elements of the chain): the request asks for `names`, the call for `identity`."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in names or [identity]]),
            critical=True).sign(key, hashes.SHA256())
        message = wire.certificate.IstioCertificateRequest(
            csr=request.public_bytes(serialization.Encoding.PEM).decode(), validity_duration=seconds)
        if impersonates:
            message.metadata["ImpersonatedIdentity"] = identity
        stub = wire.certificate_service.IstioCertificateServiceStub(self.channel)
        reply = stub.CreateCertificate(message, metadata=self.metadata, timeout=LIMIT)
        return key, list(reply.cert_chain)


class StreamOver(Exception):
    def __init__(self, error):
        self.code = error.code() if error else grpc.StatusCode.OK
        super().__init__(f"{self.code}: {error.details() if error else ''}")
