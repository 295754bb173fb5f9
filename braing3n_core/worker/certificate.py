"""A self-signed certificate and its fingerprint."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DependencyError

if TYPE_CHECKING:
    from cryptography import x509


def fingerprint_of(cert: Path) -> str:
    """The sha256 of a PEM file's first certificate, as 64 hex digits: what a client pins."""
    try:
        text = cert.read_text(encoding="ascii")
        end = "-----END CERTIFICATE-----"
        first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
    except (OSError, ValueError) as error:
        raise ConfigError("worker.tls", f"{cert} is not a PEM certificate.", "Give the certificate's file.") from error


def make_certificate(folder: Path, host: str, days: int = 825) -> tuple[Path, Path]:
    """Write ``worker-cert.pem`` and ``worker-key.pem`` for a host name or address. Raises DependencyError."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise DependencyError("worker.cryptography", "Making a certificate needs the package cryptography.",
                              "pip install 'braing3n[worker]'") from error  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host[:64])])
    now = datetime.datetime.now(datetime.UTC)
    names = [_general_name(n) for n in dict.fromkeys((host, "localhost", "127.0.0.1"))]
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths = folder / "worker-cert.pem", folder / "worker-key.pem"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, data in zip(paths, (cert.public_bytes(pem), private), strict=True):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    return paths


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
