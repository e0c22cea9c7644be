"""A wallet on its way to another machine, or into a drawer: one file, sealed under a passphrase of its own.

    exported       when, ISO 8601
    roots          the roots that were believed, the oldest first
    cards          as the wallet keeps them; of a card whose key is in a token, where that is, for the key stays there
    purchases      {xid: {file: base64}}: the buyer's evidence

What comes in changes nothing that is here: a card that is in both must be the same one, and a purchase that is in both
stays as it is here, where it may have come further. The roots of an existing wallet stay as well, so an old export
brings no old root back. Which PKCS#11 module is loaded, and where a PIN lies, no file from elsewhere decides: of a
token only its name and that of the key come in.

Everything is checked before anything is written, and the same file may be imported again: what a crash cut short is
completed.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.errors import ProtocolError
from pki.errors import UNREADABLE, PkiError
from pki.rollover import next_roots
from runtime.secrets import Secret
from shetab.errors import ValueFormatError
from storefront.errors import TransferRefused, WalletError
from storefront.files import write_whole
from storefront.wallet import container, keys, roots
from storefront.wallet.editor import check_entry, check_label
from storefront.wallet.lockout import Clock, utc_now
from storefront.wallet.records import RECORD, check_record
from storefront.wallet.renewal import NEXT
from storefront.wallet.wallet import FILE_NAME, PURCHASES

_XID: Final = re.compile(r"[0-9a-f]{40}")
_FILE: Final = re.compile(r"(?:[a-z]{1,20}/)?[a-z0-9][a-z0-9-]{0,80}\.[a-z0-9]{1,8}")
"""Names that evidence has: nothing that could lead out of the folder."""

_ENTRY: Final = frozenset({"pan", "expiry", "card_secret"})
_LIMIT: Final = 256 * 1024 * 1024  # bytes of an exported wallet that are read

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Exported:
    """What went into a file. `in_tokens`: cards whose key did not, because it is in a token."""

    cards: tuple[str, ...]
    in_tokens: tuple[str, ...]
    purchases: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What came out of a file; `known` and `kept`: cards and purchases that were here already. `in_tokens` as above."""

    cards: tuple[str, ...]
    known: tuple[str, ...]
    in_tokens: tuple[str, ...]
    purchases: int
    kept: int


def export(
    folder: Path,
    passphrase: Secret,
    to: Path,
    sealed_under: Secret,
    *,
    rng: Random = os.urandom,
    clock: Clock = utc_now,
) -> Exported:
    """Write the wallet in `folder` to the new file `to`, sealed under another passphrase.

    :raises TransferRefused: there is a file already, or the passphrase is the wallet's own. Otherwise as opening.
    """
    if to.exists():
        raise TransferRefused("{file} is already there; it is not overwritten", file=to)
    document = container.read(folder / FILE_NAME, passphrase, clock=clock)
    if sealed_under == passphrase:
        raise TransferRefused("an exported wallet has a passphrase of its own, not the one of the wallet")
    purchases = {path.name: _files(path) for path in sorted((folder / PURCHASES).glob("*")) if (path / RECORD).exists()}
    cards = document["cards"]
    content = {
        "exported": clock().isoformat(timespec="seconds"),
        "roots": [_pem(root) for root in roots.pinned(document)],
        "cards": cards,
        "purchases": purchases,
    }
    write_whole(to, container.seal(sealed_under, content, container.EXPORT, rng=rng))
    return Exported(tuple(sorted(cards)), _in_tokens(cards, sorted(cards)), len(purchases))


def import_(
    folder: Path,
    passphrase: Secret,
    source: Path,
    sealed_under: Secret,
    *,
    anchors: Sequence[x509.Certificate],
    rng: Random = os.urandom,
    clock: Clock = utc_now,
) -> Imported:
    """Take an exported wallet into the one in `folder`; if there is none, make it, under `passphrase`.

    :param anchors: roots of this installation; a wallet that is made must believe one of them.
    :raises WalletLocked: the passphrase of the file is wrong, or the file was changed.
    :raises TransferRefused: the file is not in its form, or a card or root of it contradicts what is here; nothing was
        changed. Otherwise as opening.
    """
    found = _checked(container.unseal(_read(source), sealed_under, container.EXPORT))
    for entry in found["cards"].values():
        keys.forget_module(entry)
        keys.forget_module(entry.get(NEXT, {}))
    path = folder / FILE_NAME
    if not path.exists():
        oldest, *after = _from_here_on({_pem(anchor) for anchor in anchors}, found["roots"])
        _keep_purchases(folder, found["purchases"])
        document = {"root": oldest, "roots": after, "cards": found["cards"]}
        container.create(path, passphrase, document, rng=rng, clock=clock)
        new, known = sorted(found["cards"]), list[str]()
        written = len(found["purchases"])
    else:
        with container.editing(path, passphrase, rng=rng, clock=clock) as document:
            here = {_pem(root) for root in roots.pinned(document)} | set(document.get("dropped", ()))
            _from_here_on(here, found["roots"])
            new, known = _compare(document["cards"], found["cards"])
            written = _keep_purchases(folder, found["purchases"])
            document["cards"].update({label: found["cards"][label] for label in new})
    kept = len(found["purchases"]) - written
    return Imported(tuple(new), tuple(known), _in_tokens(found["cards"], new), written, kept)


def _checked(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document, if it has the form of an export; nothing of it may be in the error."""
    try:
        datetime.fromisoformat(document["exported"])
        oldest, *after = (x509.load_pem_x509_certificate(pem.encode()) for pem in document["roots"])
        if list(next_roots(oldest, after)) != after:
            raise ValueError("roots that do not follow each other")
        for label, entry in document["cards"].items():
            check_label(label)
            check_entry(entry)
        for xid, files in document["purchases"].items():
            if not _XID.fullmatch(xid):
                raise ValueError("no purchase")
            check_record(base64.b64decode(files[RECORD], validate=True), xid)
            for name, content in files.items():
                if not _FILE.fullmatch(name):
                    raise ValueError("no name of evidence")
                base64.b64decode(content, validate=True)
        if len({entry["pan"] for entry in document["cards"].values()}) != len(document["cards"]):
            raise ValueError("a card twice")
    except (KeyError, AttributeError, ValueFormatError, WalletError, ProtocolError, PkiError, *UNREADABLE):
        raise TransferRefused("what the file holds is no exported wallet of this version") from None
    return document


def _from_here_on(here: set[str], found: Sequence[str]) -> Sequence[str]:
    """The roots found, the oldest first, from the first one that is believed here on: that one vouches for those after
    it (RFC 8649), and nobody for those before it, for anybody can make a root that names the key of ours.
    """
    for number, root in enumerate(found):
        if root in here:
            return found[number:]
    raise TransferRefused("the exported wallet believes another root than this one")


def _read(source: Path) -> bytes:
    with source.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= _LIMIT:
            content = file.read(_LIMIT + 1)  # a pipe or a device has no size
            if len(content) <= _LIMIT:
                return content
    raise TransferRefused("{file} is larger than a wallet can be", file=source)


def _compare(here: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Labels of the cards that are new, and of those that are here already."""
    new: list[str] = []
    known: list[str] = []
    numbers = {entry["pan"]: label for label, entry in here.items()}
    for label, entry in sorted(found.items()):
        if label in here:
            if any(here[label][name] != entry[name] for name in _ENTRY) or not _same_key(here[label], entry):
                raise TransferRefused(
                    "there is another card {label} here; rename one of the two, nothing was imported", label=label
                )
            known.append(label)
        elif entry["pan"] in numbers:
            raise TransferRefused(
                "the card {label} is here already, as {other}; nothing was imported",
                label=label,
                other=numbers[entry["pan"]],
            )
        else:
            new.append(label)
    return new, known


def _same_key(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return keys.public_key(one) == keys.public_key(other)


def _in_tokens(cards: Mapping[str, Any], labels: list[str]) -> tuple[str, ...]:
    return tuple(label for label in labels if keys.place_of(cards[label]) is not None)


def _files(purchase: Path) -> dict[str, str]:
    found = {}
    for path in sorted(purchase.rglob("*")):
        name = path.relative_to(purchase).as_posix()
        if path.is_file() and not path.is_symlink() and _FILE.fullmatch(name) and path.suffix != ".new":
            found[name] = base64.b64encode(path.read_bytes()).decode("ascii")
    return found


def _keep_purchases(folder: Path, purchases: Mapping[str, Mapping[str, str]]) -> int:
    """Write those that are not here; the record last, as when they were made: without it there is no purchase."""
    written = 0
    for xid, files in purchases.items():
        path = folder / PURCHASES / xid
        if (path / RECORD).exists():
            continue
        for name in sorted(files, key=lambda name: name == RECORD):
            write_whole(path / name, base64.b64decode(files[name]))
        written += 1
    return written


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
