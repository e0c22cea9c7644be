"""The steps of a ceremony, done: what each asks of the tokens, and what it records. Publishing stands in `publish`.

A step is done in two parts. `prepare` gives the bytes that are to be signed, which go into the journal first; `perform`
does the step and gives its outcome, and the certificate or CRL that came of it. Done a second time after a crash,
`perform` takes what is there: a key that was made is not made again, and the same bytes are signed again.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from ca.ceremony.acts import CrlCeremony, DestroyCeremony, RestoreCeremony, RolloverCeremony
from ca.ceremony.plan import KeyOrder, Order, Plan, Step
from ca.ceremony.room import CeremonyRoom, Clock
from ca.ceremony.standing import above, authority_ids
from ca.crl import ListedSerial, entry_der, listed, next_number, prepare_crl
from ca.errors import CeremonyError, RegisteredKey
from ca.hierarchy import ROOTS
from ca.lints import require_clean
from ca.prepare import ROOT, Issuer, Rng, new_serial, prepare, supported_key
from ca.profile import Profile, profiles
from ca.signing import sign_certificate, sign_crl
from ca.store import serial_hex
from cps.entitlement import Holder, PublicKey
from hsm_service.service import KeyInfo
from pki.csr import parse_csr
from pki.extensions import HashedRootKey
from pki.keys import spki_der, spki_sha256
from pki.path import validate_path
from pki.rollover import check_next_root

# CPS 6.2.1: made in the token, and never able to leave it.
REQUIRED_ATTRIBUTES: Final = {
    "sensitive": True,
    "always_sensitive": True,
    "never_extractable": True,
    "local": True,
    "extractable": False,
}
# CPS 6.2.4: the same, but for keys that were made to be backed up.
RECOVERABLE_ATTRIBUTES: Final = {"sensitive": True, "always_sensitive": True, "local": True}

_DISABLED: Final = "DISABLED"
_SCHEDULED: Final = "DESTROY_SCHEDULED"
_DESTROYED: Final = "DESTROYED"
_PENDING: Final = "PENDING"

Performed = tuple[dict[str, Any], bytes | None]


class Steps:
    """What was made so far, and how the next step is done."""

    def __init__(self, plan: Plan, rng: Rng, clock: Clock) -> None:
        self.plan = plan
        self._rng = rng
        self._clock = clock
        self.keys: dict[str, PublicKey] = {}
        self.certificates: dict[str, x509.Certificate] = {}
        self.crls: dict[str, x509.CertificateRevocationList] = {}
        self.registered: list[RegisteredKey] = []

    # -- before a step: what will be signed ----------------------------------------------------------------------------

    def prepare(self, step: Step, now: datetime) -> bytes | None:
        """The TBSCertificate or TBSCertList (DER) of a step that signs; None for others."""
        if step.action == "certificate":
            return self._prepare_certificate(self.plan.orders[step.subject], now)
        if step.action == "crl":
            return self._prepare_crl(step, now)
        return None

    def _prepare_certificate(self, order: Order, now: datetime) -> bytes:
        issuer = None if order.issuer is None else self._issuer(order.issuer)
        extensions = order.extensions
        if order.next_key is not None:
            extensions = (*extensions, HashedRootKey.of(self.keys[order.next_key]))
        holder = Holder(
            public_key=self._key_of(order),
            subject=order.subject,
            identity=order.identity,
            hosts=order.hosts,
            extensions=extensions,
        )
        serial = new_serial(self._rng)
        return prepare(order.profile, holder, issuer=issuer, serial=serial, now=now, publication=self.plan.publication)

    def _prepare_crl(self, step: Step, now: datetime) -> bytes:
        name, profile = self._list_of(step)
        assert profile.ca is not None
        old = self.plan.standing.crls.get(name)
        entries = [] if old is None else listed(old)
        known = {entry.serial for entry in entries}
        entries += [
            ListedSerial(each.serial, each.reason, now, None) for each in self.plan.revoke if each.serial not in known
        ]
        last = None if old is None else crl_number(old)
        return prepare_crl(
            self._issuer(name),
            number=next_number(last, now),
            entries=[entry_der(each.serial, each.revoked_at, each.reason, each.invalidity_date) for each in entries],
            rule=profile.ca.crl,
            now=now,
        )

    # -- a step in a room ----------------------------------------------------------------------------------------------

    def perform(self, step: Step, room: CeremonyRoom, tbs: bytes | None, now: datetime) -> Performed:
        """Do a step with the tokens of an open room; what was begun at `now` and interrupted is finished."""
        match step.action:
            case "key":
                return self._make_key(step.subject, room), None
            case "find":
                return self._find_key(step.subject, room), None
            case "certificate":
                assert tbs is not None
                return self._certify(self.plan.orders[step.subject], room, tbs, now)
            case "attach":
                return self._attach(self.plan.orders[step.subject], room), None
            case "crl":
                assert tbs is not None
                return self._sign_crl(step, room, tbs)
            case "restore":
                return self._restore(room), None
            case "disable" | "schedule" | "attest":
                return self._end_key(step, room), None
            case _:
                raise CeremonyError(f"{step} needs no room")

    def take(self, step: str, outcome: dict[str, Any], artefact: bytes | None) -> None:
        """Take in a step that was done before an interruption."""
        action, _, subject = step.partition(" ")
        if action in {"key", "find"} and "spki" in outcome:
            key = load_der_public_key(bytes.fromhex(outcome["spki"]))
            self.keys[subject] = supported_key(key)
            self.registered.append(RegisteredKey(outcome["key"], outcome["template"], outcome["spki_sha256"]))
        elif action == "certificate" and artefact is not None:
            self.certificates[subject] = x509.load_der_x509_certificate(artefact)
        elif action == "crl" and artefact is not None:
            self.crls[outcome["issuer"]] = x509.load_der_x509_crl(artefact)

    def _make_key(self, subject: str, room: CeremonyRoom) -> dict[str, Any]:
        order = self.plan.keys[subject]
        found = registered(room).get(order.name)
        info = found or room.generate_key(order.name, order.template.name, owner=order.owner)
        self.registered.append(_registered(info))
        outcome = self._check_key(subject, order, info, room)
        return {**outcome, "adopted": found is not None}

    def _find_key(self, subject: str, room: CeremonyRoom) -> dict[str, Any]:
        order = self.plan.keys[subject]
        info = registered(room).get(order.name)
        if info is None:
            raise CeremonyError(f"there is no key {order.name} in its token", clause="CPS 6.1.1")
        return self._check_key(subject, order, info, room)

    def _check_key(self, subject: str, order: KeyOrder, info: KeyInfo, room: CeremonyRoom) -> dict[str, Any]:
        wanted = RECOVERABLE_ATTRIBUTES if order.template.backup else REQUIRED_ATTRIBUTES
        wrong = [name for name, value in wanted.items() if info.attributes.get(name) is not value]
        if wrong:
            raise CeremonyError(f"{order.name} is not protected by its token: {', '.join(wrong)}", clause="CPS 6.2.1")
        key = supported_key(load_der_public_key(info.public_key))
        profile = self._profile_of(subject)
        if profile is not None and (refusal := profile.key.refusal(key)) is not None:
            raise CeremonyError(f"{order.name}: {refusal}", clause="CPS 6.1.5")
        if order.spki_sha256 not in {None, spki_sha256(key).hex()}:
            raise CeremonyError(f"the key {order.name} in its token is another than announced", clause="CPS 4.6")
        if order.subject is not None:
            # What is certified is the key of a request that the token signed, not what a registry says it holds.
            uris = [order.identity] if order.identity else []
            request = parse_csr(room.certification_request(order.name, order.subject.public_bytes(), uris))
            if spki_der(request.public_key()) != spki_der(key):
                raise CeremonyError(f"the request for {order.name} is signed by another key", clause="CPS 3.2.1")
        self.keys[subject] = key
        return {
            "key": order.name,
            "template": info.template,
            "algorithm": info.algorithm,
            "spki": spki_der(key).hex(),
            "spki_sha256": spki_sha256(key).hex(),
            "recoverable": order.template.backup,
            "attributes": {name: bool(value) for name, value in sorted(info.attributes.items())},
        }

    def _certify(self, order: Order, room: CeremonyRoom, tbs: bytes, now: datetime) -> Performed:
        issuer = None if order.issuer is None else self._issuer(order.issuer)
        key = self._key_of(order)
        issuer_key = issuer.public_key if issuer else key
        lints = require_clean(
            tbs, order.profile, issuer=issuer, issuer_key=issuer_key, publication=self.plan.publication, now=now
        )
        signer = order.key if issuer is None else issuer.name
        assert signer is not None
        certificate = sign_certificate(room, signer, tbs, issuer_key)
        self.certificates[order.id] = certificate
        # The root room does not hold the keys of others, so what the root certified is attached in the next room.
        if order.key is not None and not self.plan.by_root(order):
            self._attach(order, room)
        outcome = {
            "profile": order.profile.name,
            "issuer": order.issuer or order.name,
            "serial": serial_hex(certificate.serial_number),
            "sha256": certificate.fingerprint(SHA256()).hex(),
            "spki_sha256": spki_sha256(key).hex(),
            "subject": certificate.subject.rfc4514_string(),
            "not_after": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "file": order.file,
            "lints": len(lints),
        }
        return outcome, der_of(certificate)

    def _attach(self, order: Order, room: CeremonyRoom) -> dict[str, Any]:
        assert order.key is not None
        known = self.known
        chain = [order.id, *above(known[order.id], known)]
        room.attach_certificate(order.key, [der_of(known[each]) for each in chain])
        return {"key": order.key, "chain": chain}

    def _sign_crl(self, step: Step, room: CeremonyRoom, tbs: bytes) -> Performed:
        name, _profile = self._list_of(step)
        crl = sign_crl(room, name, tbs, self._issuer(name).public_key)
        self.crls[name] = crl
        at_root = step.subject == ROOT or self.plan.standing.is_root(name)
        return crl_outcome(name, crl, with_entries=at_root), crl.public_bytes(Encoding.DER)

    def _restore(self, room: CeremonyRoom) -> dict[str, Any]:
        act = self.plan.ceremony
        assert isinstance(act, RestoreCeremony)
        backup = self.plan.inputs[f"backup/{act.backup}"]
        info = room.restore_key(backup, recipient=act.recipient, replaces=act.token_is_lost)
        if info.name != act.key:
            raise CeremonyError(f"the backup is of the key {info.name}, not of {act.key}", clause="CPS 6.2.4")
        return {
            "key": info.name,
            "version": info.version,
            "backup_sha256": hashlib.sha256(backup).hexdigest(),
            "spki_sha256": hashlib.sha256(info.public_key).hexdigest(),
            "tokens": [info.token, *info.replicas],
        }

    def _end_key(self, step: Step, room: CeremonyRoom) -> dict[str, Any]:
        act = self.plan.ceremony
        assert isinstance(act, DestroyCeremony)
        order = self.plan.keys[step.subject]
        info = _version(room, order)
        if step.action == "disable":
            if info.state != _DISABLED:
                info = room.disable_key(order.name, order.version)
        elif step.action == "schedule":
            if info.state != _SCHEDULED:
                # From this moment, not from when it was begun: an interruption does not shorten the wait.
                at = self._clock().replace(microsecond=0) + timedelta(seconds=2)
                info = room.schedule_destruction(order.name, order.version, at + act.wait)
        else:
            room.destroy_due()
            info = _version(room, order)
            if info.state != _DESTROYED:
                due = f"; it is destroyed from {info.destroy_at} on" if info.destroy_at else ""
                raise CeremonyError(f"the key {step.subject} is {info.state}, not gone{due}", clause="CPS 6.2.10")
        return {
            "key": order.name,
            "version": order.version,
            "template": info.template,
            "state": info.state,
            "destroy_at": info.destroy_at,
            "spki_sha256": hashlib.sha256(info.public_key).hexdigest() if info.public_key else None,
        }

    # -- all rooms closed ----------------------------------------------------------------------------------------------

    def check(self, now: datetime) -> dict[str, Any]:
        """Each certificate leads to the root, under the CRLs, in its role; a founding certifies each key once."""
        plan, standing = self.plan, self.plan.standing
        trust = standing.trust(self.certificates, self.crls)
        keys: set[bytes] = set()
        for name, order in plan.orders.items():
            certificate = self.certificates[name]
            if isinstance(plan.ceremony, RolloverCeremony):
                newest = standing.newest_root
                assert newest is not None
                check_next_root(newest[1], certificate, now=now, known=list(standing.certificates.values()))
            else:
                validate_path(certificate, trust=trust, now=now, roles=[order.profile.role])
            keys.add(spki_sha256(certificate.public_key()))
        if len(keys) != len(plan.orders):
            raise CeremonyError("a key was certified twice", clause="CPS 6.1.1")
        if isinstance(plan.ceremony, CrlCeremony):
            root = plan.ceremony.root
            wanted = {entry.serial for entry in listed(standing.crls[root])} | {each.serial for each in plan.revoke}
            if wanted != {entry.serial for entry in listed(self.crls[root])}:
                raise CeremonyError("the new list does not carry every entry of the old one", clause="CPS 4.9.7")
        return {"certificates": len(self.certificates), "crls": len(self.crls)}

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def known(self) -> dict[str, x509.Certificate]:
        """Every certificate that stood before, or was made since."""
        return {**self.plan.standing.certificates, **self.certificates}

    def _issuer(self, authority: str) -> Issuer:
        known = self.known
        return Issuer(authority, next(known[each] for each in authority_ids(authority) if each in known))

    def _key_of(self, order: Order) -> PublicKey:
        return order.public_key or self.keys[order.id]

    def _profile_of(self, subject: str) -> Profile | None:
        order = self.plan.orders.get(subject)
        return None if order is None else order.profile

    def _list_of(self, step: Step) -> tuple[str, Profile]:
        """The authority whose list a step signs, and its profile."""
        order = self.plan.orders.get(step.subject)
        if order is None:
            return step.subject.removeprefix(f"{ROOTS}/"), profiles()[ROOT]
        return order.name, order.profile


def registered(room: CeremonyRoom) -> dict[str, KeyInfo]:
    """The keys of a room by name, each in the version in use; what a killed process did not finish making is none."""
    return {info.name: info for info in room.list_keys() if info.in_use and info.state != _PENDING}


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """cRLNumber (RFC 5280 5.2.3)."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def crl_outcome(name: str, crl: x509.CertificateRevocationList, *, with_entries: bool) -> dict[str, Any]:
    """What the transcript says about a CRL; `with_entries` for a root's, which ceremonies alone sign."""
    return {
        "issuer": name,
        "number": crl_number(crl),
        "revoked": [entry.serial for entry in listed(crl)] if with_entries else [],
        "sha256": crl.fingerprint(SHA256()).hex(),
    }


def der_of(certificate: x509.Certificate) -> bytes:
    """DER."""
    return certificate.public_bytes(Encoding.DER)


def _version(room: CeremonyRoom, order: KeyOrder) -> KeyInfo:
    for info in room.list_versions(order.name):
        if info.version == order.version:
            if info.template != order.template.name:
                raise CeremonyError(f"key {order.name} is of template {info.template}", clause="CPS 6.2.10")
            return info
    raise CeremonyError(f"there is no version {order.version} of key {order.name}", clause="CPS 6.2.10")


def _registered(info: KeyInfo) -> RegisteredKey:
    return RegisteredKey(info.name, info.template, hashlib.sha256(info.public_key).hexdigest())
