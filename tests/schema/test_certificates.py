"""Certificates and keys of SSLs: what can be read, what belongs together. APISIX pins its texts in t/admin/ssl*.t."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gw.errors import InvalidResource
from gw.schema import validate

TLS = Path(__file__).resolve().parent.parent / "data" / "tls"
CERT, KEY, CA = ((TLS / name).read_text() for name in ("server.pem", "server.key", "ca.pem"))
CLIENT_CERT, CLIENT_KEY = (TLS / "client.pem").read_text(), (TLS / "client.key").read_text()
# Named so that a repository's scanner for keys does not take it for one.
MARK = "-----BEGIN {} KEY-----\n{}\n-----END {} KEY-----\n"
BROKEN_CERT = f"-----BEGIN CERTIFICATE-----\n{'A' * 200}\n-----END CERTIFICATE-----\n"
BROKEN_KEY = MARK.format("PRIVATE", "A" * 200, "PRIVATE")
NO_CERT = "failed to parse cert: PEM_read_bio_X509_AUX() failed"
NO_KEY = "failed to parse key: PEM_read_bio_PrivateKey() failed"
PLAIN = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
WITH_PASSWORD = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    *PLAIN, serialization.BestAvailableEncryption(b"x")
)
ED25519 = ed25519.Ed25519PrivateKey.generate().private_bytes(*PLAIN, serialization.NoEncryption())
SERVER = {"sni": "a.com", "cert": CERT, "key": KEY}

GOOD: list[dict[str, Any]] = [
    SERVER,
    SERVER | {"cert": CERT + CA},
    SERVER | {"key": "\n" + KEY},
    {"type": "client", "cert": CLIENT_CERT, "key": CLIENT_KEY},
    SERVER | {"certs": [CLIENT_CERT], "keys": [CLIENT_KEY], "client": {"ca": CA}},
    SERVER | {"key": "$secret://vault/1/a/b"},
    {"sni": "a", "cert": "$env://C", "key": KEY},
    SERVER | {"certs": ["$env://C"], "keys": [KEY], "client": {"ca": "$env://CA"}},
    # As in APISIX, which looks no further at a client's.
    {"type": "client", "cert": CLIENT_CERT, "key": CLIENT_KEY, "certs": [CERT], "keys": []},
]
BAD: list[tuple[dict[str, Any], str, str]] = [
    (SERVER | {"cert": "x" * 128}, "cert", NO_CERT),
    (SERVER | {"cert": BROKEN_CERT}, "cert", NO_CERT),
    (SERVER | {"cert": CERT + BROKEN_CERT}, "cert", NO_CERT),
    (SERVER | {"cert": KEY + " " * 128}, "cert", NO_CERT),
    (SERVER | {"key": BROKEN_KEY}, "key", NO_KEY),
    (SERVER | {"key": "----" + "x" * 64}, "key", NO_KEY),
    (SERVER | {"key": CERT}, "key", NO_KEY),
    (SERVER | {"key": WITH_PASSWORD.decode()}, "key", NO_KEY),
    (SERVER | {"key": "x" * 128}, "key", "failed to decrypt previous encrypted key"),
    (SERVER | {"key": CLIENT_KEY}, "key", "the key does not belong to the certificate"),
    (SERVER | {"key": ED25519.decode()}, "key", "the key does not belong to the certificate"),
    (SERVER | {"certs": [CERT], "keys": []}, "certs", "mismatched number of certs and keys"),
    (SERVER | {"certs": [CERT]}, "certs", "mismatched number of certs and keys"),
    (
        SERVER | {"certs": [CLIENT_CERT, BROKEN_CERT], "keys": [CLIENT_KEY, KEY]},
        "certs[1]",
        f"failed to handle cert-key pair[2]: {NO_CERT}",
    ),
    (SERVER | {"certs": [CERT], "keys": [BROKEN_KEY]}, "keys[0]", f"failed to handle cert-key pair[1]: {NO_KEY}"),
    (
        SERVER | {"certs": [CERT], "keys": ["x" * 128]},
        "keys[0]",
        "failed to handle cert-key pair[1]: failed to decrypt previous encrypted key",
    ),
    (SERVER | {"client": {"ca": "test.com" * 128}}, "client.ca", f"failed to validate client_cert: {NO_CERT}"),
]


@pytest.mark.parametrize("ssl", GOOD)
def test_what_can_be_used(ssl: dict[str, Any]) -> None:
    assert validate("ssls", "1", ssl)["cert"] == ssl["cert"]


@pytest.mark.parametrize(("ssl", "path", "reason"), BAD)
def test_what_cannot(ssl: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        validate("ssls", "1", ssl)
    assert (refused.value.path, refused.value.reason, refused.value.stands_alone) == (path, reason, True)


@pytest.mark.parametrize(
    "key", ["s3cret" * 4, "$s3cret", "s3cret" * 20_000, ["s3cret"], MARK.format("S3CRET", "x", "A")]
)
def test_no_refusal_quotes_a_key(key: object) -> None:
    with pytest.raises(InvalidResource) as refused:
        validate("ssls", "1", SERVER | {"key": key})
    assert "s3cret" not in str(refused.value).lower()


@pytest.mark.parametrize(
    ("cert", "key", "path", "reason"),
    [
        (CLIENT_CERT, CLIENT_KEY, None, None),
        ("x" * 128, CLIENT_KEY, "upstream.tls.client_cert", NO_CERT),
        (CLIENT_CERT, BROKEN_KEY, "upstream.tls.client_key", NO_KEY),
        (CLIENT_CERT, KEY, "upstream.tls.client_key", "the key does not belong to the certificate"),
    ],
)
def test_certificates_of_upstreams(cert: str, key: str, path: str | None, reason: str | None) -> None:
    upstream = {"nodes": {"127.0.0.1:1": 1}, "scheme": "https", "tls": {"client_cert": cert, "client_key": key}}
    if reason is None:
        validate("services", "1", {"upstream": upstream})
        return
    with pytest.raises(InvalidResource) as refused:
        validate("services", "1", {"upstream": upstream})
    assert (refused.value.path, refused.value.reason, refused.value.stands_alone) == (path, reason, True)
