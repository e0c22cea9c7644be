"""Certificate status for relying parties: the CRLs in force, asked for before each decision, or no decision.

`StatusCache` (and `AsyncStatusCache`, the same over asyncio) asks the repository's `/status` with If-None-Match,
fetches only the CRLs that changed, verifies each under the CA certificates it was given, and hands out a `Trust` for
`pki.path.validate_path`. It fails closed: no answer, a wrong one, or an older CRL than was seen before raise
StatusError; a CRL past its nextUpdate is handed out, and every path under it fails (`crl_expired`), as it does under
one that is missing. Of an authority with a long list, the delta over it is fetched instead, as long as the full list
stays the same.

With `max_age` 0 every call asks, but not each with a request of its own: all calls that wait while a request is under
way share the next one, which starts after they did.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import httpx
import msgspec
from cryptography import x509

from ca.crl_kinds import DELTA, FULL
from ca.errors import StatusError
from cps.signatory import statement_of_service
from pki.bci import SIGNER, Bci
from pki.crl import CrlSet, IndexedCrl, verify_crl
from pki.errors import PkiError
from pki.oids import CT_BCI
from pki.path import Trust
from runtime.client import AsyncTransport, http_client, keepalive_client
from runtime.keepalive import Answer

_CLAUSE: Final = "CPS 4.9.6"
_TIMEOUT: Final = 5.0  # seconds; a payment waits for this
_ATTEMPTS: Final = 3  # a CRL that is replaced between /status and its own download is asked for again
_MAX_AUTHORITIES: Final = 64


class _Told(msgspec.Struct, frozen=True):
    """What /status says of a list beside the full one."""

    number: int
    sha256: str


class _Line(msgspec.Struct, frozen=True):
    """One line of /status: an authority's full list, and its others by scope."""

    issuer: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,64}$")]  # it becomes part of a path
    number: int
    sha256: str
    lists: dict[str, _Told] = {}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A list that was announced: full, or the delta over it."""

    issuer: str
    scope: str
    number: int
    sha256: str

    @property
    def path(self) -> str:
        return f"/crls/{self.issuer}.crl" if self.scope == FULL else f"/crls/{self.issuer}/{self.scope}.crl"


@dataclass(frozen=True, slots=True)
class _Known:
    """A verified CRL and the line of /status it was announced by."""

    entry: _Entry
    crl: IndexedCrl


@dataclass(frozen=True, slots=True)
class _Get:
    """A request that the state wants sent."""

    path: str
    headers: dict[str, str]


class _State:
    """What was learned so far; no I/O here, so that both caches decide alike."""

    def __init__(
        self,
        anchors: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate],
        max_age: timedelta,
        with_bci: bool,
    ) -> None:
        self._anchors = tuple(anchors)
        self._intermediates = tuple(intermediates)
        self._max_age = max_age
        self._etag: str | None = None
        self._checked_at: datetime | None = None
        self._known: dict[tuple[str, str], _Known] = {}
        self._with_bci = with_bci
        self._bci: Bci | None = None
        self._trust: Trust | None = None
        self.started = 0  # requests begun
        self.finished = 0  # the highest request that ended well

    def fresh(self, now: datetime) -> Trust | None:
        """What is known, if it was confirmed no longer than `max_age` ago (and not in the future)."""
        if self._trust is None or self._checked_at is None or not self._max_age:
            return None
        return self._trust if timedelta(0) <= now - self._checked_at <= self._max_age else None

    def since(self, ticket: int) -> Trust | None:
        """What is known, if a request that began after `ticket` was taken ended well."""
        return self._trust if self.finished > ticket else None

    def exchange(self, now: datetime) -> Generator[_Get, Answer, Trust]:
        """One look at the repository: yields requests, is sent their responses, returns what may be believed."""
        self.started += 1
        number = self.started
        behind: StatusError | None = None
        for _ in range(_ATTEMPTS):
            response = yield _Get("/status", {} if self._etag is None else {"if-none-match": self._etag})
            if self._unchanged(response):
                if self._with_bci and (self._bci is None or self._bci.next_update < now):
                    self._etag, etag = None, self._etag  # until the BCI is found to agree, nothing is settled
                    behind = self._check_bci((yield _Get("/bci", {})), now)
                    if behind is not None:
                        continue  # a list that came out a moment ago: a new /status will name it
                    self._etag = etag
                return self._confirm(now, number)
            entries, missing = self._missing(response)
            fetched: list[_Known] = []
            for entry in missing:
                found = self._read(entry, (yield _Get(entry.path, {})))
                if found is not None:
                    fetched.append(found)
            if len(fetched) == len(missing):
                self._accept(entries, fetched, response)
                if self._with_bci:
                    self._etag, etag = None, self._etag
                    behind = self._check_bci((yield _Get("/bci", {})), now)
                    if behind is not None:
                        continue
                    self._etag = etag
                return self._confirm(now, number)
        raise behind or StatusError("the repository's status and its CRLs do not fit together", clause=_CLAUSE)

    def _unchanged(self, response: Answer) -> bool:
        """Whether /status answered that nothing changed; raises StatusError for any other answer than 200."""
        if response.status_code == httpx.codes.NOT_MODIFIED and self._trust is not None:
            return True
        if response.status_code != httpx.codes.OK:
            raise StatusError(f"the repository answers {response.status_code}", clause=_CLAUSE)
        return False

    def _missing(self, response: Answer) -> tuple[list[_Entry], list[_Entry]]:
        """All lines of /status, and those whose CRL has to be fetched."""
        try:
            lines = msgspec.json.decode(response.content, type=list[_Line])
        except msgspec.MsgspecError:
            raise StatusError("the repository's status is not a list of CRLs", clause=_CLAUSE) from None
        if not 1 <= len(lines) <= _MAX_AUTHORITIES or len({line.issuer for line in lines}) != len(lines):
            raise StatusError("the repository's status names no authority, too many, or one twice", clause=_CLAUSE)
        entries = [_Entry(line.issuer, FULL, line.number, line.sha256) for line in lines]
        for line in lines:
            delta = line.lists.get(DELTA)
            if delta is not None and delta.number > line.number:  # partitions say nothing that the full list does not
                entries.append(_Entry(line.issuer, DELTA, delta.number, delta.sha256))
        return entries, [entry for entry in entries if not self._has(entry)]

    def _has(self, entry: _Entry) -> bool:
        known = self._known.get((entry.issuer, entry.scope))
        return known is not None and known.entry == entry

    def _read(self, entry: _Entry, response: Answer) -> _Known | None:
        """The CRL of a line, verified; None if it was replaced meanwhile, by one that a new /status will name."""
        if response.status_code != httpx.codes.OK:
            raise StatusError(f"the repository has no CRL of {entry.issuer}", clause=_CLAUSE)
        if hashlib.sha256(response.content).hexdigest() != entry.sha256:
            return None
        try:
            crl = IndexedCrl.from_der(response.content)
            verify_crl(crl, self._issuer(crl.crl), crl.crl.last_update_utc, partial=entry.scope == DELTA)
            if (crl.base_number is None) != (entry.scope == FULL):
                raise ValueError("it is of another scope")
        except (ValueError, PkiError) as error:
            raise StatusError(f"the CRL of {entry.issuer} is not one: {error}", clause="RFC 5280 6.3") from None
        known = self._known.get((entry.issuer, entry.scope))
        if crl.number != entry.number or (known is not None and crl.number <= known.entry.number):
            raise StatusError(f"the CRL of {entry.issuer} is older than one seen before", clause="RFC 5280 5.2.3")
        return _Known(entry, crl)

    def _issuer(self, crl: x509.CertificateRevocationList) -> x509.Certificate:
        for certificate in (*self._anchors, *self._intermediates):
            if certificate.subject == crl.issuer:
                return certificate
        raise ValueError("its issuer is not an authority that is trusted here")

    def _accept(self, entries: Iterable[_Entry], fetched: Iterable[_Known], response: Answer) -> None:
        known = self._known | {(each.entry.issuer, each.entry.scope): each for each in fetched}
        named = {(entry.issuer, entry.scope): entry for entry in entries}
        for issuer, scope in known.keys() - named.keys():
            full = named.get((issuer, FULL))
            # A delta ends with a full list that has all of it, never by itself.
            if scope == FULL or full is None or full.number <= known[issuer, scope].entry.number:
                what = "CRL" if scope == FULL else "delta"
                raise StatusError(f"the repository no longer has a {what} of {issuer}", clause=_CLAUSE)
        known = {key: each for key, each in known.items() if key in named}
        self._known = known
        self._etag = response.headers.get("etag")
        self._trust = Trust(self._anchors, self._intermediates, CrlSet(each.crl for each in known.values()))

    def _check_bci(self, response: Answer, now: datetime) -> StatusError | None:
        """Whether all lists of the newest BCI are here, none of them older than it says; what is to be said, if not.

        A list may be newer: it is published a moment before the BCI that names it. One that is older here may be one
        that was replaced since it was asked for. Raises StatusError for a BCI that is none, or not the newest.
        """
        assert self._trust is not None  # _accept came before
        if response.status_code != httpx.codes.OK:
            raise StatusError(f"the repository has no list of all CRLs: {response.status_code}", clause=_CLAUSE)
        try:
            signed = statement_of_service(response.content, CT_BCI, SIGNER, trust=self._trust, now=now)
            bci = Bci.from_der(signed.content)
        except PkiError as error:
            raise StatusError(f"the list of all CRLs is not one: {error}", clause=_CLAUSE) from None
        if bci.next_update < now or (self._bci is not None and bci.number < self._bci.number):
            raise StatusError("the list of all CRLs is an old one", clause=_CLAUSE)
        for each in bci.lists:
            if each.scope not in (FULL, DELTA):
                continue
            known = self._known.get((each.issuer, each.scope))
            full = self._known.get((each.issuer, FULL))
            if full is not None and each.scope == DELTA and full.entry.number > each.number:
                continue  # a full list that has all of the delta
            if known is None or known.entry.number < each.number:
                return StatusError(f"the repository keeps back the {each.scope} CRL of {each.issuer}", clause=_CLAUSE)
            if known.entry.number == each.number and known.entry.sha256 != each.sha256.hex():
                raise StatusError(f"there are two CRLs {each.number} of {each.issuer}", clause=_CLAUSE)
        self._bci = bci
        return None

    def _confirm(self, now: datetime, number: int) -> Trust:
        assert self._trust is not None  # _unchanged and _accept see to it
        self._checked_at = now
        self.finished = number
        return self._trust


class StatusCache:
    """Status for threads: `trust(now)` is what may be believed now."""

    def __init__(
        self,
        url: str,
        anchors: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate],
        max_age: float = 0.0,
        *,
        client: httpx.Client | None = None,
        with_bci: bool = False,
    ) -> None:
        """`url` is the repository's base; `max_age` in seconds: how old a look at the status may be.

        `with_bci`: lists are believed only while the signed list of all lists (`pki.bci`) agrees.
        """
        self._http = client or http_client(None, url, timeout=_TIMEOUT)
        self._state = _State(anchors, intermediates, timedelta(seconds=max_age), with_bci)
        self._lock = threading.Lock()

    def trust(self, now: datetime) -> Trust:
        """Pinned roots, CA certificates and the CRLs in force; raises StatusError."""
        ticket = self._state.started
        with self._lock:
            known = self._state.fresh(now) or self._state.since(ticket)
            return known or self._ask(now)

    def _ask(self, now: datetime) -> Trust:
        exchange = self._state.exchange(now)
        try:
            request = next(exchange)
            while True:
                request = exchange.send(self._http.get(request.path, headers=request.headers))
        except StopIteration as end:
            return _result(end)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    def close(self) -> None:
        self._http.close()


class AsyncStatusCache:
    """Status for asyncio: `await trust(now)` is what may be believed now."""

    def __init__(
        self,
        url: str,
        anchors: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate],
        max_age: float = 0.0,
        *,
        client: AsyncTransport | None = None,
        with_bci: bool = False,
    ) -> None:
        """As `StatusCache`."""
        self._http = client or keepalive_client(None, url, timeout=_TIMEOUT)
        self._state = _State(anchors, intermediates, timedelta(seconds=max_age), with_bci)
        self._lock = asyncio.Lock()

    async def trust(self, now: datetime) -> Trust:
        """As `StatusCache.trust`."""
        ticket = self._state.started
        async with self._lock:
            known = self._state.fresh(now) or self._state.since(ticket)
            return known or await self._ask(now)

    async def _ask(self, now: datetime) -> Trust:
        exchange = self._state.exchange(now)
        try:
            request = next(exchange)
            while True:
                request = exchange.send(await self._http.request("GET", request.path, headers=request.headers))
        except StopIteration as end:
            return _result(end)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    async def aclose(self) -> None:
        await self._http.aclose()


def _result(end: StopIteration) -> Trust:
    trust = end.value
    assert isinstance(trust, Trust)
    return trust


def _unreachable(error: httpx.HTTPError) -> StatusError:
    return StatusError(f"the repository does not answer: {type(error).__name__}", clause=_CLAUSE)
