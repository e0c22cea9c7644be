"""A hierarchy with all its transcripts in one file, for an auditor who has no access to the installation.

The archive is a tar of the published folder, the same bytes for the same content: no times, no owners. Nothing in it is
secret. It is unpacked with care, because whoever verifies it does not trust where it came from.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from ca.ceremony.standing import read_transcripts
from ca.errors import CeremonyError
from ca.files import replace_file

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of all files of an archive together."""
_MOST_FILES: Final = 10_000


def export(folder: Path, out: Path) -> int:
    """Write the hierarchy in `folder` as the archive `out`; returns how many files. Raises CeremonyError, OSError."""
    read_transcripts(folder)
    buffer = io.BytesIO()
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            data = path.read_bytes()
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    replace_file(out, buffer.getvalue())
    return len(paths)


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """The archive as a folder that is gone afterwards. Raises CeremonyError for anything but plain files below it."""
    folder = Path(tempfile.mkdtemp(prefix="kwbp-archive-"))
    try:
        _unpack(archive, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def _unpack(archive: Path, folder: Path) -> None:
    total = 0
    try:
        with tarfile.open(archive, mode="r:gz") as found:
            for number, member in enumerate(found):
                path = PurePosixPath(member.name)
                total += member.size
                if not member.isfile() or path.is_absolute() or not set(path.parts).isdisjoint({"..", "."}):
                    raise CeremonyError(f"the archive holds {member.name!r}, which is not a plain file below it")
                if number >= _MOST_FILES or total > LARGEST:
                    raise CeremonyError("the archive is larger than any hierarchy")
                content = found.extractfile(member)
                assert content is not None  # a plain file has one
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise CeremonyError(f"{archive} is not an archive of a hierarchy: {error}") from None
    except OSError as error:
        if error.filename == str(archive):
            raise
        raise CeremonyError(f"{archive} is not an archive of a hierarchy: {error.strerror or error}") from None
