"""What costs seconds to make is made once in a run, whichever of its processes asks first.

    founded = once_a_run(tmp_path_factory, "founded", found)        # found(folder) -> World

The others get a copy of what it returned: made of plain data, keys and certificates, over files in a folder that all
of them share. Nobody changes these files.
"""

from __future__ import annotations

import fcntl
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

_PRIVATE: Final = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
T = TypeVar("T")


def _key(der: bytes) -> Any:
    return load_der_private_key(der, None)


def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


class _Pickler(pickle.Pickler):
    """Pickles keys and certificates as their DER."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            return _key, (obj.private_bytes(*_PRIVATE),)
        if isinstance(obj, x509.Certificate):
            return _certificate, (obj.public_bytes(Encoding.DER),)
        return NotImplemented


def _pickled(value: object) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream).dump(value)
    return stream.getvalue()


def once_a_run(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What `make(folder)` returns, made by the first process of this run that asks for `name`."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make(factory.mktemp(name))
    folder = factory.getbasetemp().parent / f"shared-{name}"
    kept = folder.with_suffix(".pickle")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            folder.mkdir()
            kept.write_bytes(_pickled(make(folder)))
    made: T = pickle.loads(kept.read_bytes())  # noqa: S301  # our own, of a moment ago
    return made
