"""Run a planned ceremony: rooms opened one after the other, each step recorded, everything published at the end.

The tokens of the services and the root's token are never open together: the root room opens after the service room was
closed, signs the few requests it was shown, and is closed before anything else happens. Until the last step all results
are in memory; what an interrupted run leaves behind are keys in the tokens, and those it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from ca.ceremony.plan import Order, Plan, Room, Step
from ca.ceremony.transcript import Entry, Transcript
from ca.crl import next_number, prepare_crl
from ca.errors import CeremonyAbortedError, CeremonyError, KeysExistError, RegisteredKey
from ca.files import publish_folder
from ca.hierarchy import TRANSCRIPT
from ca.lints import require_clean
from ca.prepare import Issuer, Rng, new_serial, prepare, supported_key
from ca.signing import sign_certificate, sign_crl
from ca.store import serial_hex
from cps.entitlement import Holder, PublicKey
from hsm_service.service import KeyInfo, SigningService
from pki.crl import CrlSet
from pki.csr import parse_csr
from pki.keys import spki_der, spki_sha256
from pki.path import Trust, validate_path

OpenRoom = Callable[[], AbstractContextManager[SigningService]]
Progress = Callable[[Step, Entry], None]
Clock = Callable[[], datetime]

# CPS 6.2.1: made in the token, and never able to leave it.
REQUIRED_ATTRIBUTES: Final = {
    "sensitive": True,
    "always_sensitive": True,
    "never_extractable": True,
    "local": True,
    "extractable": False,
}


@dataclass(frozen=True)
class Founded:
    """What a ceremony made: certificates and CRLs by order and authority name, and its transcript."""

    certificates: dict[str, x509.Certificate]
    crls: dict[str, x509.CertificateRevocationList]
    transcript: Transcript


def run(
    plan: Plan,
    *,
    service_room: OpenRoom,
    root_room: OpenRoom,
    folder: Path,
    rng: Rng,
    clock: Clock,
    adopt: bool = False,
    progress: Progress = lambda _step, _entry: None,
) -> Founded:
    """Found the hierarchy of `plan` and publish it as `folder`, which must not hold anything yet.

    `service_room` and `root_room` open the tokens for the time of a `with` block. With `adopt`, keys that an unfinished
    earlier run left in the tokens under the planned names and templates are used instead of new ones.

    Raises CeremonyError or KeysExistError before anything was touched, CeremonyAbortedError afterwards: it lists the
    keys that are registered in the tokens, and nothing is published.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CeremonyError(f"{folder} holds a hierarchy already", clause="CPS 6.1.1")
    act = _Run(plan, rng, clock, adopt, progress)
    rooms: dict[Room, OpenRoom] = {"service": service_room, "root": root_room}
    with service_room() as room:
        act.look_for_keys(room)
    act.begin()
    step: Step | None = None
    try:
        for room_name, steps in groupby(plan.steps, key=lambda planned: planned.room):
            if room_name == "none":
                for step in steps:
                    act.perform_outside(step, folder)
                continue
            with rooms[room_name]() as room:
                if room_name == "root":
                    act.look_for_keys(room)
                for step in steps:
                    act.perform(step, room)
    except Exception as error:
        raise CeremonyAbortedError(str(step or "opening a room"), act.registered) from error
    return Founded(act.certificates, act.crls, act.transcript)


class _Run:
    """The state of a running ceremony."""

    def __init__(self, plan: Plan, rng: Rng, clock: Clock, adopt: bool, progress: Progress) -> None:
        self._plan = plan
        self._rng = rng
        self._clock = clock
        self._adopt = adopt
        self._progress = progress
        self._keys: dict[str, PublicKey] = {}
        self._existing: dict[str, KeyInfo] = {}
        self.transcript = Transcript()
        self.certificates: dict[str, x509.Certificate] = {}
        self.crls: dict[str, x509.CertificateRevocationList] = {}
        self.registered: list[RegisteredKey] = []

    def look_for_keys(self, room: SigningService) -> None:
        """Find planned keys that exist; without `adopt` that is the end."""
        templates = {order.key: order.template for order in self._plan.orders.values() if order.key is not None}
        found = {info.name: info for info in room.list_keys() if info.name in templates}
        wrong = [name for name, info in found.items() if info.template != templates[name]]
        if wrong:
            raise CeremonyError(f"keys of another kind have the names {', '.join(wrong)}", clause="CPS 6.1.1")
        if found.keys() - self._existing.keys() - {key.name for key in self.registered} and not self._adopt:
            raise KeysExistError([_registered(info) for info in found.values()])
        self._existing |= found

    def begin(self) -> None:
        header = self._plan.ceremony.ceremony
        self.transcript.append(
            "begin",
            {
                "ceremony": header.id,
                "version": header.version,
                "section": header.section,
                "plan": self._plan.digest,
                "repository": self._plan.publication.repository,
                "cps": self._plan.publication.cps_uri,
            },
            self._clock(),
        )

    def perform(self, step: Step, room: SigningService) -> None:
        """Do one step with the tokens of an open room, and record it."""
        order = self._plan.orders[step.subject]
        match step.action:
            case "key":
                outcome = self._make_key(order, room)
            case "certificate":
                outcome = self._certify(order, room)
            case "attach":
                outcome = self._attach(order, room)
            case "crl":
                outcome = self._sign_crl(order, room)
            case _:
                raise CeremonyError(f"{step} needs no room")
        self._record(step, outcome)

    def perform_outside(self, step: Step, folder: Path) -> None:
        """Do one of the last steps, all rooms closed."""
        if step.action == "check":
            self._record(step, self._check())
        else:
            files = self._files()
            self._record(step, {"files": {name: _sha256(content) for name, content in files.items()}})
            publish_folder(folder, {**files, TRANSCRIPT: self.transcript.to_json()})

    def _record(self, step: Step, outcome: dict[str, Any]) -> None:
        self._progress(step, self.transcript.append(str(step), outcome, self._clock()))

    def _make_key(self, order: Order, room: SigningService) -> dict[str, Any]:
        assert order.key is not None
        assert order.template is not None
        adopted = self._existing.get(order.key)
        info = adopted or room.generate_key(order.key, order.template)
        self.registered.append(_registered(info))
        wrong = [name for name, value in REQUIRED_ATTRIBUTES.items() if info.attributes.get(name) is not value]
        if wrong:
            raise CeremonyError(f"{order.key} is not protected by its token: {', '.join(wrong)}", clause="CPS 6.2.1")
        key = supported_key(load_der_public_key(info.public_key))
        if (refusal := order.profile.key.refusal(key)) is not None:
            raise CeremonyError(f"{order.key}: {refusal}", clause="CPS 6.1.5")
        # What is certified is the key of a request that the token signed, not what a registry says it holds.
        uris = [order.identity] if order.identity else []
        request = parse_csr(room.certification_request(order.key, order.subject.public_bytes(), uris))
        if spki_der(request.public_key()) != spki_der(key):
            raise CeremonyError(f"the request for {order.key} is signed by another key", clause="CPS 3.2.1")
        self._keys[order.id] = key
        return {
            "key": order.key,
            "template": info.template,
            "algorithm": info.algorithm,
            "spki_sha256": spki_sha256(key).hex(),
            "attributes": {name: bool(value) for name, value in sorted(info.attributes.items())},
            "adopted": adopted is not None,
        }

    def _certify(self, order: Order, room: SigningService) -> dict[str, Any]:
        now = self._clock()
        issuer = None if order.issuer is None else self._issuer(order.issuer)
        key = order.public_key or self._keys[order.id]
        holder = Holder(
            public_key=key,
            subject=order.subject,
            identity=order.identity,
            hosts=order.hosts,
            extensions=order.extensions,
        )
        publication = self._plan.publication
        tbs = prepare(
            order.profile, holder, issuer=issuer, serial=new_serial(self._rng), now=now, publication=publication
        )
        issuer_key = issuer.public_key if issuer else key
        lints = require_clean(
            tbs, order.profile, issuer=issuer, issuer_key=issuer_key, publication=publication, now=now
        )
        certificate = sign_certificate(room, issuer.name if issuer else self._plan.root.name, tbs, issuer_key)
        self.certificates[order.id] = certificate
        # The root room does not hold the keys of others, so what the root certified is attached in the next room.
        if order.key is not None and (order.issuer is None or order.issuer != self._plan.root.name):
            self._attach(order, room)
        return {
            "profile": order.profile.name,
            "issuer": order.issuer or order.name,
            "serial": serial_hex(certificate.serial_number),
            "sha256": certificate.fingerprint(SHA256()).hex(),
            "spki_sha256": spki_sha256(key).hex(),
            "subject": certificate.subject.rfc4514_string(),
            "not_after": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lints": len(lints),
        }

    def _attach(self, order: Order, room: SigningService) -> dict[str, Any]:
        assert order.key is not None
        chain = [order.id, *self._above(order)]
        room.attach_certificate(order.key, [_der(self.certificates[each]) for each in chain])
        return {"key": order.key, "chain": chain}

    def _sign_crl(self, order: Order, room: SigningService) -> dict[str, Any]:
        assert order.profile.ca is not None
        now = self._clock()
        issuer = self._issuer(order.name)
        number = next_number(None, now)
        tbs = prepare_crl(issuer, number=number, entries=(), rule=order.profile.ca.crl, now=now)
        crl = sign_crl(room, order.name, tbs, issuer.public_key)
        self.crls[order.name] = crl
        return {"issuer": order.name, "number": number, "sha256": crl.fingerprint(SHA256()).hex()}

    def _check(self) -> dict[str, Any]:
        """Each certificate leads to the new root, under the new CRLs, in its role; each key is certified once."""
        trust = Trust((self.certificates[self._plan.root.id],), self._intermediates(), CrlSet(self.crls.values()))
        keys: set[bytes] = set()
        for name, order in self._plan.orders.items():
            certificate = self.certificates[name]
            validate_path(certificate, trust=trust, now=self._clock(), roles=[order.profile.role])
            keys.add(spki_sha256(certificate.public_key()))
        if len(keys) != len(self._plan.orders):
            raise CeremonyError("a key was certified twice", clause="CPS 6.1.1")
        return {"certificates": len(self.certificates), "crls": len(self.crls)}

    def _intermediates(self) -> tuple[x509.Certificate, ...]:
        return tuple(self.certificates[order.id] for order in self._plan.authorities.values() if order.issuer)

    def _issuer(self, authority: str) -> Issuer:
        return Issuer(authority, self.certificates[self._plan.authorities[authority].id])

    def _above(self, order: Order) -> Sequence[str]:
        """The ids of the authorities above an order, nearest first, without the root."""
        above = []
        while order.issuer is not None and order.issuer != self._plan.root.name:
            order = self._plan.authorities[order.issuer]
            above.append(order.id)
        return above

    def _files(self) -> dict[str, bytes]:
        files = {f"crls/{name}.crl": crl.public_bytes(Encoding.DER) for name, crl in self.crls.items()}
        for order in self._plan.orders.values():
            chain = [order.id] if order.profile.ca is not None else [order.id, *self._above(order)]
            files[f"{order.id}.pem"] = b"".join(self.certificates[each].public_bytes(Encoding.PEM) for each in chain)
        return files


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _registered(info: KeyInfo) -> RegisteredKey:
    return RegisteredKey(info.name, info.template, _sha256(info.public_key))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
