"""A certificate authority like istiod's: a root, an intermediate that signs, certificates for servers and workloads."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


class Authority:
    def __init__(self):
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._authority(name("root"), self.root_key.public_key(), name("root"), self.root_key)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.intermediate = self._authority(name("istiod"), self.key.public_key(), name("root"), self.root_key)

    @property
    def root_pem(self):
        return pem(self.root)

    @staticmethod
    def _authority(subject, key, issuer, signer):
        moment = now()
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
                .serial_number(x509.random_serial_number())
                .not_valid_before(moment - datetime.timedelta(hours=1))
                .not_valid_after(moment + datetime.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .add_extension(Authority._usage(signs=True), critical=True)
                # As istiod's have them: two roots of one name are told apart by their keys.
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
                .add_extension(Authority._signer(signer), critical=False)
                .sign(signer, hashes.SHA256()))

    @staticmethod
    def _signer(key):
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())

    @staticmethod
    def _usage(signs=False):
        return x509.KeyUsage(
            digital_signature=not signs, key_encipherment=not signs, key_cert_sign=signs, crl_sign=signs,
            content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False)

    def _leaf(self, key, subject_names, critical, seconds, begins):
        moment = now() + datetime.timedelta(seconds=begins)
        return (x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.intermediate.subject)
                .public_key(key).serial_number(x509.random_serial_number())
                .not_valid_before(moment).not_valid_after(moment + datetime.timedelta(seconds=seconds))
                .add_extension(x509.SubjectAlternativeName(subject_names), critical=critical)
                .add_extension(self._usage(), critical=True)
                .add_extension(x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(self._signer(self.key), critical=False)
                .sign(self.key, hashes.SHA256()))

    def server(self, *names, seconds=3600, begins=-60):
        """(key, chain), both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(key.public_key(), [x509.DNSName(text) for text in names], False, seconds, begins)
        return key_pem(key), pem(leaf) + pem(self.intermediate)

    def workload(self, request, identity, seconds=3600, begins=-60):
        """A `cert_chain`: leaf, intermediate, root. The name comes from the call, never from the request."""
        leaf = self._leaf(
            request.public_key(), [x509.UniformResourceIdentifier(identity)], True, seconds, begins)
        return [pem(leaf), pem(self.intermediate), self.root_pem]
