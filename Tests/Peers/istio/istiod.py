"""istiod as a ztunnel sees it: delta xDS and the certificate service on one TLS port. It does nothing by itself: a test
takes each request and says what is sent."""

import queue
import threading
from concurrent import futures

import grpc
import wire
from authority import Authority
from cryptography import x509
from node import netns

LIMIT = 20
NAME = "istiod.istio-system.svc"


class Stream:
    """One delta stream. Requests come out in the order they came in."""

    def __init__(self, context):
        self.context = context
        self.metadata = {key: value for key, value in context.invocation_metadata()}
        self.requests = queue.Queue()
        self.out = queue.Queue()
        self.ended = threading.Event()
        self.nonce = 0

    def next(self, limit=LIMIT):
        try:
            return self.requests.get(timeout=limit)
        except queue.Empty:
            raise AssertionError("no request from ztunnel") from None

    def opening(self):
        """The first request of each type."""
        first = [self.next(), self.next()]
        return {request.type_url: request for request in first}

    def send(self, type_url, resources=(), removed=(), nonce=None):
        """Sends a response and returns its nonce."""
        if nonce is None:
            self.nonce += 1
            nonce = f"{id(self)}-{self.nonce}"
        self.out.put(wire.discovery.DeltaDiscoveryResponse(
            system_version_info="1", resources=resources, type_url=type_url, removed_resources=removed, nonce=nonce))
        return nonce

    def deliver(self, type_url, resources=(), removed=(), nonce=None):
        """Sends a response and waits for the answer to it."""
        nonce = self.send(type_url, resources, removed, nonce)
        answer = self.next()
        assert answer.response_nonce == nonce, (answer, nonce)
        assert answer.type_url == type_url, answer
        return answer

    def cut(self, code=None, words="cut by the test"):
        """Ends the stream: as one that is over, with a status, or by a reset."""
        self.out.put((code, words))
        assert self.ended.wait(LIMIT), "the stream does not end"


class Istiod:
    def __init__(self, authority=None, names=(NAME,)):
        self.authority = authority or Authority()
        self.streams = queue.Queue()
        self.calls = []  # (metadata, request) of the certificate service
        self.refuse = None  # (code, words): what every call is answered with
        self.lifetime = {}  # by identity: what Authority.workload is told
        self.tokens = None  # those that are taken; None for any
        self.certificate = self.authority.server(*names)
        self.server, self.place = None, None

    # ---- serving ----
    def start(self, namespace, address="127.0.0.1:15012"):
        self.place = namespace, address
        server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        wire.discovery_service.add_AggregatedDiscoveryServiceServicer_to_server(Discovery(self), server)
        wire.certificate_service.add_IstioCertificateServiceServicer_to_server(Certificates(self), server)
        key, chain = self.certificate
        credentials = grpc.ssl_server_credentials([(key.encode(), chain.encode())])
        bound = netns.inside(namespace, lambda: server.add_secure_port(address, credentials))
        assert bound, f"cannot listen at {address}"
        server.start()
        self.server = server

    def stop(self):
        self.server.stop(0).wait(LIMIT)

    def present(self, *names, **times):
        """Starts again with another certificate; streams that are open end."""
        self.certificate = self.authority.server(*names, **times)
        self.stop()
        self.start(*self.place)

    def stream(self, limit=LIMIT):
        """The next stream that a ztunnel opens."""
        try:
            return self.streams.get(timeout=limit)
        except queue.Empty:
            raise AssertionError("no stream from ztunnel") from None

    def check(self, context):
        if self.refuse:
            context.abort(*self.refuse)
        token = dict(context.invocation_metadata()).get("authorization", "")
        if self.tokens is not None and token.removeprefix("Bearer ") not in self.tokens:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "token expired")


class Discovery(wire.discovery_service.AggregatedDiscoveryServiceServicer):
    def __init__(self, istiod):
        self.istiod = istiod

    def DeltaAggregatedResources(self, requests, context):
        self.istiod.check(context)
        stream = Stream(context)

        def read():
            try:
                for request in requests:
                    stream.requests.put(request)
            except Exception:  # the stream is over; whoever waits for a request will say so
                pass
            stream.out.put((grpc.StatusCode.OK, ""))

        context.add_callback(lambda: (stream.out.put((grpc.StatusCode.OK, "")), stream.ended.set()))
        threading.Thread(target=read, daemon=True).start()
        self.istiod.streams.put(stream)
        while True:
            message = stream.out.get()
            if not isinstance(message, tuple):
                yield message
                continue
            code, words = message
            stream.ended.set()
            if code is None:
                context.cancel()
            elif code != grpc.StatusCode.OK:
                context.abort(code, words)
            return


class Certificates(wire.certificate_service.IstioCertificateServiceServicer):
    def __init__(self, istiod):
        self.istiod = istiod

    def CreateCertificate(self, request, context):
        istiod = self.istiod
        istiod.calls.append((dict(context.invocation_metadata()), request))
        istiod.check(context)
        wanted = x509.load_pem_x509_csr(request.csr.encode())
        assert wanted.is_signature_valid
        identity = request.metadata["ImpersonatedIdentity"]
        chain = istiod.authority.workload(wanted, identity, **istiod.lifetime.get(identity, {}))
        return wire.certificate.IstioCertificateResponse(cert_chain=chain)
