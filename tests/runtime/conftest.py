"""A tiny TLS hierarchy made with OpenSSL, so that the server is judged by certificates we did not encode."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.client import TlsFiles


def _openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="session")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TlsFiles]:
    """`issue(name, uri=…, usage=…)` makes a key and a certificate below one test root."""
    folder = tmp_path_factory.mktemp("tls")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for root in ("root", "foreign"):
        _openssl(
            *("req", "-x509", *new_key, "-keyout", f"{root}.key", "-out", f"{root}.pem", "-days", "2"),
            *("-subj", f"/CN={root}", "-addext", "basicConstraints=critical,CA:TRUE"),
            cwd=folder,
        )

    def make(
        name: str, *, uri: str | None = None, usage: str = "serverAuth,clientAuth", root: str = "root"
    ) -> TlsFiles:
        names = "DNS:localhost,IP:127.0.0.1" + (f",URI:{uri}" if uri else "")
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\nextendedKeyUsage={usage}\n")
        _openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=folder)
        _openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{root}.pem", "-CAkey", f"{root}.key", "-CAcreateserial"),
            *("-days", "1", "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
            cwd=folder,
        )
        return TlsFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / "root.pem")

    return make
