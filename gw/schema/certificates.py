"""Can certificates and keys be used? As `check_ssl_conf` and `validate` in apisix/ssl.lua, with their texts.

It goes further in one thing: a key must belong to its certificate, since no handshake could succeed with another one.
A reference to a secret is followed by whoever uses it, and not looked at. Nothing of a key is ever quoted.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gw.schema.explain import Complaint
from gw.schema.wording import Place

# OpenSSL's functions, which APISIX's texts name.
_NO_CERTIFICATE: Final = "failed to parse cert: PEM_read_bio_X509_AUX() failed"
_NO_KEY: Final = "failed to parse key: PEM_read_bio_PrivateKey() failed"
_STILL_ENCRYPTED: Final = "failed to decrypt previous encrypted key"
_FOREIGN_KEY: Final = "the key does not belong to the certificate"
# How both begin, and nothing that was encrypted to be stored.
_PEM: Final = "---"


def certificate_complaints(ssl: Mapping[str, Any]) -> Iterator[Complaint]:
    """What is wrong with the certificates of an SSL that fits its schema, in the order in which APISIX looks."""
    yield from pair_complaints(("cert",), ssl["cert"], ("key",), ssl["key"])
    if ssl["type"] == "client":
        return
    certs, keys = ssl.get("certs", ()), ssl.get("keys", ())
    if len(certs) != len(keys):
        yield Complaint(("certs",), "mismatched number of certs and keys", stands_alone=True)
        return
    for number, (cert, key) in enumerate(zip(certs, keys, strict=True)):
        for complaint in pair_complaints(("certs", number), cert, ("keys", number), key):
            reason = f"failed to handle cert-key pair[{number + 1}]: {complaint.reason}"
            yield complaint._replace(reason=reason)
    authority = ssl.get("client", {}).get("ca", "$")
    if not _is_reference(authority) and _load_certificate(authority) is None:
        reason = f"failed to validate client_cert: {_NO_CERTIFICATE}"
        yield Complaint(("client", "ca"), reason, stands_alone=True)


def pair_complaints(cert_place: Place, cert: str, key_place: Place, key: str) -> Iterator[Complaint]:
    """What is wrong with a certificate and its key, and where."""
    if _is_reference(cert) or _is_reference(key):
        return
    certificate = _load_certificate(cert)
    if certificate is None:
        yield Complaint(cert_place, _NO_CERTIFICATE, stands_alone=True)
    elif not key.lstrip().startswith(_PEM):
        yield Complaint(key_place, _STILL_ENCRYPTED, stands_alone=True)
    elif (public_key := _public_key_of(key)) is None:
        yield Complaint(key_place, _NO_KEY, stands_alone=True)
    elif certificate.public_key() != public_key:
        yield Complaint(key_place, _FOREIGN_KEY, stands_alone=True)


def _is_reference(text: str) -> bool:
    return text.startswith("$")


def _load_certificate(pem: str) -> Any:
    """The first certificate of a chain; None when there is none that can be read, or another one cannot."""
    from cryptography import x509  # 10 MB, that a configuration without SSLs does without

    try:
        chain = x509.load_pem_x509_certificates(pem.encode())
        chain[0].public_key()
    except Exception:  # besides ValueError, whatever its parsers make of what somebody sent
        return None
    return chain[0]


def _public_key_of(pem: str) -> Any:
    """The public half of a private key; None when it cannot be read, or only with a password."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # The test for RSA's primes takes longer than all the rest, and a key that fails it matches no certificate.
        return load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True).public_key()
    except Exception:  # as above; and TypeError for one that has a password
        return None
