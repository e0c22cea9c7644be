"""The lists that the repository serves: CRLs of every scope and the BCI, and what `/status` says of them.

Lists are sent from their files, a chunk at a time, whatever their size. A list is replaced by moving another one into
its place, so an answer that is under way goes on with the one it began with. What a list says of itself (number, times)
is read around its entries, once for each file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ca.bci_publisher import FILE as BCI_FILE
from ca.crl_kinds import FULL
from ca.crl_outline import CrlOutline, crl_outline
from ca.record import instant
from runtime.logging import get_logger
from runtime.problems import Problem

CRL_TYPE: Final = "application/pkix-crl"
CMS_TYPE: Final = "application/cms"
_log: Final = get_logger("ca.repository")
_SUFFIX: Final = ".crl"
_CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list as it is on disk now."""

    path: Path
    sha256: str
    size: int
    outline: CrlOutline

    def told(self) -> dict[str, Any]:
        """What `/status` says of it."""
        found: dict[str, Any] = {
            "number": self.outline.number,
            "sha256": self.sha256,
            "next_update": instant(self.outline.next_update),
        }
        if self.outline.base_number is not None:
            found["base_number"] = self.outline.base_number
        return found


class PublishedLists:
    """The lists of the published folder, looked at again when a file was replaced. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        self._crls = folder / "crls"
        self._bci = folder / BCI_FILE
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int, int], PublishedList]] = {}
        self._told: set[Path] = set()

    def marks(self) -> dict[str, tuple[int, int, int]]:
        """By path: what is another after any list came, went or was replaced; quick enough for an event loop."""
        found, folders = {}, [str(self._crls)]
        while folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if _is_list(entry.name):
                        found[entry.path] = _mark(entry.stat())
                    elif entry.is_dir():
                        folders.append(entry.path)
        return found

    def has_read(self, marks: Mapping[str, tuple[int, int, int]]) -> bool:
        """Whether all these lists are known: none of them could not be read."""
        known = [self._known.get(Path(path)) for path in marks]
        return all(each is not None and each[0] == mark for each, mark in zip(known, marks.values(), strict=True))

    def status(self) -> list[dict[str, Any]]:
        """One object for each authority that has a full list; its other lists stand in `lists`, by scope."""
        found = []
        for issuer in _names(self._crls):
            full = self._read(_file(self._crls, issuer))
            if full is not None:
                folder = self._crls / issuer
                others = {scope: self._read(_file(folder, scope)) for scope in _names(folder)}
                lists = {scope: each.told() for scope, each in others.items() if each is not None}
                found.append({"issuer": issuer, **full.told(), **({"lists": lists} if lists else {})})
        return found

    def find(self, issuer: str, scope: str = FULL) -> PublishedList | None:
        """The newest list of a scope; None if there is none. What is asked for is compared with names, not opened."""
        folder, name = (self._crls, issuer) if scope == FULL else (self._crls / issuer, scope)
        if scope != FULL and issuer not in _names(self._crls):
            return None
        return self._read(_file(folder, name)) if name in _names(folder) else None

    def bci(self) -> bytes | None:
        """The signed list of all CRLs in force, DER."""
        try:
            return self._bci.read_bytes()
        except FileNotFoundError:
            return None

    def _read(self, path: Path) -> PublishedList | None:
        try:
            known = self._known.get(path)
            if known is not None and known[0] == _mark(path.stat()):
                return known[1]
            with path.open("rb") as file:
                state = os.fstat(file.fileno())
                mark = _mark(state)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found = PublishedList(path, digest, state.st_size, crl_outline(file))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # the others are in force all the same
            self._tell(path, error)
            return None
        with self._lock:
            self._known[path] = (mark, found)
            self._told.discard(path)
        return found

    def _tell(self, path: Path, error: Exception) -> None:
        with self._lock:
            known = path in self._told
            self._told.add(path)
        if not known:
            _log.error("list-unreadable", file=f"{path.parent.name}/{path.name}", error=type(error).__name__)


def routes(lists: PublishedLists) -> list[Route]:
    """The routes of CRLs and of the BCI."""

    async def crl(request: Request) -> Response:
        issuer, scope = request.path_params["issuer"], request.path_params.get("scope", FULL)
        found = await anyio.to_thread.run_sync(lists.find, issuer, scope)
        if found is None or (scope == FULL and "scope" in request.path_params):
            raise Problem(404, "unknown-list", "no authority has such a list")
        headers = {
            "ETag": f'"{found.sha256}"',
            # no-cache: keep it, but ask before using it: a revocation may have come (RFC 9111 5.2.2.4)
            "Cache-Control": "no-cache",
            "Last-Modified": format_datetime(found.outline.this_update, usegmt=True),
            "Expires": format_datetime(found.outline.next_update, usegmt=True),
        }
        if is_known(request, found.sha256):
            return Response(status_code=304, headers=headers)
        headers["Content-Length"] = str(found.size)
        if request.method == "HEAD":
            return Response(headers=headers, media_type=CRL_TYPE)
        try:
            file = found.path.open("rb")
        except FileNotFoundError:
            raise _replaced() from None
        if os.fstat(file.fileno()).st_size != found.size:  # replaced a moment ago: whoever asks again gets the new one
            file.close()
            raise _replaced()
        return StreamingResponse(_sent(file), headers=headers, media_type=CRL_TYPE)

    async def bci(request: Request) -> Response:
        found = await anyio.to_thread.run_sync(lists.bci)
        if found is None:
            raise Problem(404, "no-bci", "no list of all CRLs has been signed yet")
        digest = hashlib.sha256(found).hexdigest()
        headers = {"ETag": f'"{digest}"', "Cache-Control": "no-cache"}
        if is_known(request, digest):
            return Response(status_code=304, headers=headers)
        return Response(found, headers=headers, media_type=CMS_TYPE)

    return [
        Route("/crls/{issuer}.crl", crl),
        Route("/crls/{issuer}/{scope}.crl", crl),
        Route("/bci", bci),
    ]


def is_known(request: Request, digest: str) -> bool:
    """Whether the caller has what has this digest already (If-None-Match)."""
    return f'"{digest}"' in {each.strip() for each in request.headers.get("if-none-match", "").split(",")}


def _replaced() -> Problem:
    return Problem(503, "list-replaced", "the list is being replaced", headers={"Retry-After": "1"})


async def _sent(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await anyio.to_thread.run_sync(file.read, _CHUNK):
            yield chunk


def _mark(state: os.stat_result) -> tuple[int, int, int]:
    """What is another for a file that was moved into the place of this one."""
    return state.st_ino, state.st_mtime_ns, state.st_size


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}{_SUFFIX}"


def _names(folder: Path) -> list[str]:
    """Names of the lists in a folder, without drafts; none if there is no such folder."""
    try:
        with os.scandir(folder) as found:
            files = [each.name for each in found]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name.removesuffix(_SUFFIX) for name in files if _is_list(name))


def _is_list(name: str) -> bool:
    """Whether a file is a list, and no draft of one."""
    return name.endswith(_SUFFIX) and not name.startswith(".")
