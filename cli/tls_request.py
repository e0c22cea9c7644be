"""TLS keys of services and members, and what they ask to be certified with."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding

from cli import keyfiles
from pki import names
from runtime.settings import Home


def request_tls(home: Home, name: str, hosts: tuple[str, ...] = (), *, uri: str | None = None) -> bytes:
    """Make the TLS key of a service or member, once, and its PKCS#10 request (DER)."""
    path = home.tls / f"{name}.key"
    request_path = path.with_suffix(".csr")
    if not path.exists():
        keyfiles.save(path, keyfiles.generate(keyfiles.AlgorithmChoice.EC), None)
    if not request_path.exists():
        uris = (uri or f"urn:kwbp:service:{name}",)
        request = keyfiles.request(keyfiles.load(path, None), names.name(cn=name), uris=uris, hosts=hosts)
        request_path.write_bytes(request.public_bytes(Encoding.DER))
    return request_path.read_bytes()
