"""A bundle's files, read from a folder that anybody may have made: nothing is followed, run or read without a limit.

What comes out is bytes by name, and the names are those of the closed list below. Everything after this is pure.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kwbp.structure import SIZE_LIMIT
from runtime.language import Message
from storefront.errors import BundleRefused
from storefront.evidence.movements import FOLDER

MESSAGES: Final = (
    "invoice", "dual-signature", "contract", "auth-req", "auth-res", "auth-ack", "receipt", "receipt-ack",
    "gateway-status",
)  # fmt: skip
"""Signed messages, each `NAME.p7s`."""
NEEDED: Final = frozenset(
    {
        "root.pem",
        "purchase.txt",
        "digests.txt",
        "verdict.json",
        "signers/buyer.pem",
        "signers/merchant.pem",
        "signers/gateway-encryption.pem",
        "invoice.p7s",
        "dual-signature.p7s",
    }
)
"""What every bundle has."""
ENVELOPE: Final = "pi-envelope.p7m"
"""Not in a gateway's own bundle: it may not keep sealed card data once the order is answered. The order's hash of them
is what the gateway is bound by."""
WITH_ENVELOPE: Final = frozenset({"oi-data.der", "order-details.der", "auth-req.p7s", "receipt.p7s", "contract.p7s"})
"""What only those have who have the sealed card data too: buyer and merchant."""
SCRIPT: Final = "verify.sh"
"""The only file that digests.txt does not name; it is read, and never run from the folder."""

_PLACES: Final = re.compile(
    r"root\.pem|purchase\.txt|status\.txt|digests\.txt|verdict\.json|verify\.sh|pi-envelope\.p7m"
    r"|oi-data\.der|order-details\.der|timestamp\.tsr"
    rf"|(?:{'|'.join(MESSAGES)})\.p7s"
    r"|signers/(?:buyer|merchant|gateway|gateway-encryption|gateway-status)\.pem"
    r"|money-[0-9]{2}/(?:(?:request|answer)\.p7s|time\.txt|[0-9a-f]{8}\.pem)"
    r"|chain/[A-Za-z0-9-]{1,64}\.pem|(?:crls|stamp-crls|status-crls)/[0-9a-f]{8}\.pem|ocsp/[A-Za-z0-9-]{1,64}\.der"
)
_FOLDERS: Final = frozenset({"chain", "crls", "stamp-crls", "status-crls", "ocsp", "signers"})
_MANY: Final = 500  # files
_LIST_LIMIT: Final = 64 * 1024 * 1024  # bytes of a status list: a million entries
_LISTS: Final = ("crls/", "stamp-crls/", "status-crls/", "money-")


def read_folder(path: Path) -> Mapping[str, bytes]:
    """The files of a bundle by their names in it.

    Raises BundleRefused for what is no part of a bundle, is missing, is no plain file (a link, a pipe, a device), or is
    larger than it can be. What the files say is judged by `storefront.evidence.dossier`.
    """
    found: dict[str, bytes] = {}
    try:
        for name, place in _walk(path):
            if len(found) == _MANY:
                raise BundleRefused(Message("there are more than {count} files", count=_MANY))
            found[name] = _read(name, place)
    except OSError as error:
        raise BundleRefused(Message("the folder cannot be read ({reason})", reason=type(error).__name__)) from None
    for name in sorted(NEEDED - found.keys()):
        raise BundleRefused(Message("{file} is missing", file=name))
    return found


def _walk(path: Path) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(path), key=lambda each: each.name):
        if not entry.is_dir(follow_symlinks=False):
            yield _known(entry.name), Path(entry.path)
        elif entry.name in _FOLDERS or FOLDER.fullmatch(entry.name):
            for inner in sorted(os.scandir(entry.path), key=lambda each: each.name):
                yield _known(f"{entry.name}/{inner.name}"), Path(inner.path)
        else:
            raise BundleRefused(Message("{file} is no part of a bundle", file=entry.name))


def _known(name: str) -> str:
    if _PLACES.fullmatch(name) is None:
        raise BundleRefused(Message("{file} is no part of a bundle", file=name))
    return name


def _read(name: str, place: Path) -> bytes:
    try:
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise BundleRefused(Message("{file} is no plain file that can be read", file=name)) from None
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise BundleRefused(Message("{file} is no plain file that can be read", file=name))
        limit = _LIST_LIMIT if name.startswith(_LISTS) else SIZE_LIMIT
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise BundleRefused(Message("{file} has more than {count} bytes", file=name, count=limit))
    return content
