"""A certificate authority and one server certificate, made afresh for the tests that speak TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Not there for every Python that this is tried on: free-threaded ones are the latest to get it.
try:
    import trustme
except ImportError:
    trustme = None

NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: the authority, the server's certificate chain, the server's private key."""

    authority: Path
    certificate: Path
    key: Path

    def client_options(self) -> dict[str, Any]:
        """Return what ``Connection(ssl=...)`` takes to trust this server, its name checked."""
        return {
            "ca_certs": str(self.authority),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": NAMES[0],
        }

    def server_context(self) -> ssl.SSLContext:
        """Return a server's side context with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make(folder: Path) -> Certificates:
    """Write a new authority and a certificate for this host's loopback names into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server-key.pem")
    if trustme is None:
        _make_with_openssl(made)
        return made
    authority = trustme.CA()
    server = authority.issue_cert(*NAMES)
    authority.cert_pem.write_to_path(made.authority)
    server.private_key_pem.write_to_path(made.key)
    made.certificate.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    return made


def _make_with_openssl(made: Certificates) -> None:
    """Do the same by OpenSSL's program, for an interpreter on which trustme does not install."""
    if shutil.which("openssl") is None:
        import pytest  # only here: the benchmarks' broker has no pytest

        pytest.skip("neither trustme nor openssl is installed")
    authority_key = made.authority.with_name("authority-key.pem")
    host, *addresses = NAMES
    names = ",".join([f"DNS:{host}", *(f"IP:{address}" for address in addresses)])
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    usage = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    extensions = ["-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"]
    for command in (
        [*new, "-subj", "/CN=authority of this test", "-keyout", authority_key, "-out", made.authority, *usage],
        [*new, "-subj", f"/CN={NAMES[0]}", "-CA", made.authority, "-CAkey", authority_key, *extensions,
         "-keyout", made.key, "-out", made.certificate],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
