"""A log for somebody else: all that is needed to judge it, in one folder, without any program of ours installed."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from audit.log_key import LogKey
from audit.note import VerifierKey
from audit.verify import head_path, lines, log_folder

_README: Final = """\
{log}.jsonl             the log: a line is an entry, canonical JSON
{log}.head, {log}.log/  its newest state, its signed checkpoint, the same entries as tiles (c2sp.org/tlog-tiles)
certificates.pem        the certificate of the log's key, then its issuers
root.pem                the root certificate: compare its SHA-256 fingerprint with the one that you were told elsewhere
witness.vkey            the key of the witness, if there is one: compare it, too
verify.py               the verifier: Python 3.11 or later, nothing else; read it before you run it

1. The log is whole, and is the one of its checkpoint:

    python3 verify.py {log}.jsonl

2. The checkpoint was signed by the log's key:

    cp {log}.log/checkpoint checkpoint
    sed '/^$/,$d' checkpoint > text
    grep -- "^— $(head -1 checkpoint) " checkpoint | cut -d' ' -f3 | base64 -d | tail -c +5 > signature
    openssl x509 -in certificates.pem -pubkey -noout > key.pem
    openssl dgst -sha256 -verify key.pem -signature signature text

3. The key is that of this log, by a certificate that leads to the root:

    openssl verify -CAfile root.pem -untrusted certificates.pem certificates.pem
    openssl x509 -in certificates.pem -noout -ext subjectAltName       # URI:urn:kwbp:service:{key}
    openssl x509 -in root.pem -noout -fingerprint -sha256

Entries beyond the checkpoint are vouched for by nobody yet.
"""


def export(path: Path, folder: Path, key: LogKey, root: Path, witness: VerifierKey | None) -> int:
    """Copy the log `path` into `folder`, which must be new or empty; returns the number of entries.

    May run while the log is written: what is noted of it is copied before it. Raises FileExistsError, OSError.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    source, target = log_folder(path), folder / log_folder(path).name
    target.mkdir()
    _copy(head_path(path), folder / head_path(path).name)  # first: it says that a checkpoint is there
    for name in ("checkpoint.witnessed", "checkpoint"):
        _copy(source / name, target / name)
    for tile in _tiles(source):
        if not _copy(source / tile, target / tile):  # a partial tile: it went because the full one has come
            full = tile.parent.with_suffix("")
            _copy(source / full, target / full)
    count = 0
    with path.open("rb") as log, (folder / path.name).open("wb") as copy:
        for line in lines(log):
            if line.endswith(b"\n"):  # the last may be on its way
                copy.write(line)
                count += 1
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in key.chain)
    (folder / "certificates.pem").write_bytes(chain)
    shutil.copyfile(root, folder / "root.pem")
    if witness is not None:
        (folder / "witness.vkey").write_text(f"{witness.encode()}\n", encoding="utf-8")
    (folder / "verify.py").write_bytes(files("audit").joinpath("verify.py").read_bytes())
    (folder / "README").write_text(_README.format(log=path.stem, key=key.name), encoding="utf-8")
    return count


def _tiles(folder: Path) -> list[Path]:
    """The tiles that are there now, below `folder`."""
    found = [file for file in (folder / "tile").rglob("*") if file.is_file() and not file.name.startswith(".")]
    return sorted(file.relative_to(folder) for file in found)


def _copy(source: Path, target: Path) -> bool:
    """Copy a file; whether it is there."""
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return True
