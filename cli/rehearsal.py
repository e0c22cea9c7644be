"""A ceremony rehearsed: the same file, from start to end, in throw-away tokens that are gone afterwards.

What an act needs to be there (the hierarchy, authorities and keys of earlier ceremonies, a backup) is founded first, in
the same throw-away tokens, under the names that it has in the installation. No token, folder or journal of the
installation is opened.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony import Act, Entry, Plan, Standing, Step, founding_ceremony, plan, read_standing, run, verify
from ca.ceremony.acts import (
    DestroyCeremony,
    KeyCeremony,
    RestoreCeremony,
    RolloverCeremony,
    act_of,
)
from ca.ceremony.model import Ceremony
from ca.ceremony.standing import above
from ca.hierarchy import ROOTS
from ca.publication import Publication
from cli.ceremony_rooms import now, root_room, service_room
from hsm_service.access import CEREMONY
from hsm_service.provision import provision_tokens
from hsm_service.vault import SERVICE_TOKENS, Vault
from pki.names import name
from pki.roles import Role, role_of
from runtime.settings import Home

_TEMPLATES: Final = {Role.GEOPOLITICAL: "geopolitical-ca", Role.BRAND: "brand-ca"}
_BACKED_UP: Final = "issuing-ca-recoverable"


@dataclass(frozen=True)
class Rehearsed:
    """What the real run would do: each step with the seconds that it took here, and the files it would publish."""

    plan: Plan
    steps: tuple[tuple[Step, float], ...]
    files: tuple[str, ...]
    seconds: float
    verified: int


class Rehearsal:
    """Throw-away tokens and a hierarchy in them. Use it in a `with` block."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication
        self._home = Home(Path(tempfile.mkdtemp(prefix="kwbp-rehearsal-")) / "home")
        self._clock = now
        self._tokens: tuple[str, ...] | None = None

    def __enter__(self) -> Rehearsal:
        provision_tokens(self._home)
        return self

    def __exit__(self, *_exception: Any) -> None:
        shutil.rmtree(self._home.path.parent)

    def rehearse(self, act: Act, inputs: Mapping[str, bytes], standing: Standing) -> Rehearsed:
        """Run `act` here, from start to end; `standing` is what is published in the installation. Raises as `run`."""
        if not isinstance(act, Ceremony):
            inputs = self._stand_in(act, inputs, standing)
        took: list[tuple[Step, float]] = []
        began = last = time.monotonic()

        def progress(step: Step, _entry: Entry) -> None:
            nonlocal last
            took.append((step, time.monotonic() - last))
            last = time.monotonic()

        planned = self._run(act, inputs, progress)
        verified = verify(self._home.pki, now=now())  # what services renew every day is not renewed here
        transcript = next(reversed(verified.ceremonies))
        files = tuple(self._files[transcript])
        return Rehearsed(planned, tuple(took), files, time.monotonic() - began, len(verified.ceremonies))

    def _run(self, act: Act, inputs: Mapping[str, bytes], progress: Any = lambda _step, _entry: None) -> Plan:
        pki = self._home.pki
        there = None if isinstance(act, Ceremony) else read_standing(pki)
        planned = (
            plan(act, inputs, self._publication)
            if there is None
            else plan(act, inputs, self._publication, standing=there, now=self._clock())
        )
        done = run(
            planned,
            service_room=partial(service_room, self._home, clock=self._clock, tokens=self._tokens),
            root_room=partial(root_room, self._home, clock=self._clock),
            folder=pki,
            rng=os.urandom,
            clock=self._clock,
            journal=self._home.path / "ceremony" / "journal.jsonl",
            progress=progress,
        )
        self._files = {self._newest(): done.transcript.entries[-1].outcome["files"]}
        return planned

    def _newest(self) -> str:
        found = sorted((self._home.pki / "transcripts").glob("*.json"))
        return f"transcripts/{found[-1].name}" if found else "transcript.json"

    # -- what the act finds there --------------------------------------------------------------------------------------

    def _stand_in(self, act: Act, inputs: Mapping[str, bytes], standing: Standing) -> Mapping[str, bytes]:
        """Found what `act` needs, under the names of the installation; its inputs, with a backup of our own."""
        founding = founding_ceremony().model_copy(update={"services": ()})
        roots = sorted(
            (each for each in standing.certificates.items() if each[0].startswith(f"{ROOTS}/")),
            key=lambda pair: pair[1].not_valid_before_utc,
        )
        following = [key.removeprefix(f"{ROOTS}/") for key, _certificate in roots]
        if isinstance(act, RolloverCeremony):
            following.append(act.root.name)
        if following and founding.next_root is not None:
            next_root = founding.next_root.model_copy(update={"name": following[0]})
            founding = founding.model_copy(update={"next_root": next_root})
        self._run(founding, {title: _request() for title in founding.requests})
        for root, after in pairwise(following):
            self._run(_rollover(root, after), {})
        self._add_authorities(act, standing)
        if isinstance(act, KeyCeremony):
            self._add_keys(act)
        elif isinstance(act, DestroyCeremony):
            self._add_ended(act)
        elif isinstance(act, RestoreCeremony):
            return {f"backup/{act.backup}": self._back_up(act)} if inputs else {}
        return inputs

    def _add_authorities(self, act: Act, standing: Standing) -> None:
        """The authorities of later ceremonies, those nearest to the root first."""
        there = read_standing(self._home.pki)
        more = [
            (key, certificate)
            for key, certificate in standing.certificates.items()
            if key.startswith("cas/") and key not in there.certificates
        ]
        if isinstance(act, DestroyCeremony):
            ended = {entry.name for entry in act.keys}
            more = [each for each in more if each[0].removeprefix("cas/") not in ended]
        more.sort(key=lambda pair: len(above(pair[1], standing.certificates)))
        for key, certificate in more:
            role, issuers = role_of(certificate), above(certificate, standing.certificates)
            issuer = issuers[0].removeprefix("cas/") if issuers else "root"
            self._run(_sub_ca(key.removeprefix("cas/"), role, issuer), {})

    def _add_keys(self, act: KeyCeremony) -> None:
        there = read_standing(self._home.pki).certificates
        missing = [entry for entry in act.renew if f"keys/{entry.name}" not in there]
        if missing:
            self._run(act.model_copy(update={"make": tuple(missing), "renew": (), "bare": ()}), {})

    def _add_ended(self, act: DestroyCeremony) -> None:
        with service_room(self._home) as room:
            there = {info.name for info in room.list_keys()}
            for entry in act.keys:
                if entry.name not in there and entry.template != "root-ca":
                    room.generate_key(entry.name, entry.template)
        if act.act == "attest":
            self._run(act.model_copy(update={"act": "schedule"}), {})
            self._clock = _later(act.wait + timedelta(seconds=5))

    def _back_up(self, act: RestoreCeremony) -> bytes:
        """A backup of a key of that name, wrapped to a recipient of that name."""
        there = read_standing(self._home.pki).certificates
        if f"cas/{act.key}" not in there:
            self._run(_sub_ca(act.key, Role.MERCHANT_CA, "brand", _BACKED_UP), {})
        with Vault.open(self._home) as vault:
            recipient = vault.generate_key(CEREMONY, act.recipient, "backup-recipient")
            made = vault.backups.back_up(
                CEREMONY,
                act.key,
                recipient=recipient.public_key,
                attestation=vault.attest_key(CEREMONY, act.recipient).signed,
            )
        if act.token_is_lost:
            self._tokens = tuple(label for label in SERVICE_TOKENS if label != "ca")
        return made


def _later(wait: timedelta) -> Any:
    def clock() -> datetime:
        return now() + wait

    return clock


def _request() -> bytes:
    """A PKCS#10 request by a key that nobody keeps."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(cn="rehearsal"))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


def _sub_ca(authority: str, role: Role, issuer: str, template: str | None = None) -> Act:
    entry = {
        "name": authority,
        "profile": role.value,
        "issuer": issuer,
        "template": template or _TEMPLATES.get(role, _BACKED_UP),
        "common_name": f"Rehearsal {authority}",
    }
    return _act("sub-ca", organisation="KWBP", country="IR", authorities=[entry])


def _rollover(root: str, after: str) -> Act:
    entry = {"name": root, "profile": "root", "template": "root-ca", "common_name": f"Rehearsal {root}"}
    return _act(
        "rollover", organisation="KWBP", country="IR", root=entry, next_root={"name": after, "template": "root-ca"}
    )


def _act(kind: str, **fields: Any) -> Act:
    return act_of({"ceremony": {"id": "rehearsal", "kind": kind, "version": 1, "section": "6.1.1"}, **fields})
