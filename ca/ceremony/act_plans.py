"""How what is done to a hierarchy is planned, kind by kind; and `plan`, which plans a ceremony of any kind. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from ca.ceremony.acts import (
    Act,
    CrlCeremony,
    DestroyCeremony,
    KeyCeremony,
    RestoreCeremony,
    RolloverCeremony,
    SubCaCeremony,
)
from ca.ceremony.founding_plan import authority_order, draft_founding, next_root_key, system_key_order
from ca.ceremony.model import BareKeyEntry, Ceremony, SystemKeyEntry
from ca.ceremony.plan import Draft, KeyOrder, Order, Plan, Revoked
from ca.ceremony.standing import NOTHING, Standing
from ca.ceremony.transcript import digest
from ca.errors import CaError, CeremonyError, PlanError
from ca.hierarchy import ROOTS
from ca.prepare import ROOT, certified_key
from ca.publication import Publication
from ca.store import serial_hex
from cps.signatory import open_signed
from hsm_service.backup_file import KeyBackup
from pki import oids
from pki.errors import PkiError
from pki.extensions import HashedRootKey
from pki.keys import spki_sha256
from pki.path import validate_path
from pki.roles import Role, role_of


def plan(
    ceremony: Act,
    inputs: Mapping[str, bytes],
    publication: Publication,
    *,
    standing: Standing = NOTHING,
    now: datetime | None = None,
) -> Plan:
    """Check a ceremony with all that goes in, and list its steps.

    `inputs`: PKCS#10 requests of a founding (DER or PEM, by `service/<name>` and `officer/<person>`), the file
    `backup/<name>` of a restore. `standing` is what is published, `now` the time at which it must hold.

    Raises PlanError with every finding at once; nothing is touched.
    """
    draft = Draft(publication, standing)
    if isinstance(ceremony, Ceremony):
        if standing.root is not None:
            raise CeremonyError("there is a hierarchy already; a founding never replaces one", clause="CPS 6.1.1")
        draft_founding(draft, ceremony, inputs)
    else:
        if standing.root is None or now is None:
            raise CeremonyError(
                f"a ceremony of kind {ceremony.ceremony.kind} is for a hierarchy that was founded", clause="CPS 6.1.1"
            )
        _draft_act(draft, ceremony, inputs, now)
        _check_in_force(draft, now)
    if draft.findings:
        raise PlanError("the ceremony is not fit to be run", draft.findings)
    fixed = {
        "ceremony": ceremony.model_dump(mode="json"),
        "requests": {title: hashlib.sha256(data).hexdigest() for title, data in sorted(inputs.items())},
        "publication": [publication.repository, publication.cps_uri],
        "standing": standing.fingerprints(),
        "after": standing.tip,
    }
    return Plan(
        ceremony,
        publication,
        dict(inputs),
        standing,
        draft.orders,
        draft.keys,
        tuple(draft.revoke),
        tuple(draft.steps),
        digest(fixed),
    )


def _draft_act(draft: Draft, ceremony: Act, inputs: Mapping[str, bytes], now: datetime) -> None:
    match ceremony:
        case SubCaCeremony():
            _draft_sub_ca(draft, ceremony)
        case KeyCeremony():
            _draft_keys(draft, ceremony)
        case CrlCeremony():
            _draft_crl(draft, ceremony)
        case RolloverCeremony():
            _draft_rollover(draft, ceremony)
        case RestoreCeremony():
            _draft_restore(draft, ceremony, inputs, now)
        case DestroyCeremony():
            _draft_destroy(draft, ceremony)
    wanted = {f"backup/{ceremony.backup}"} if isinstance(ceremony, RestoreCeremony) else set()
    for title in sorted(inputs.keys() - wanted):
        draft.refuse("input-unknown", "CPS 4.1.2", f"{title} is not part of this ceremony")
    draft.step("none", "publish", "hierarchy")


def _draft_sub_ca(draft: Draft, ceremony: SubCaCeremony) -> None:
    for entry in ceremony.authorities:
        try:
            order = authority_order(draft, ceremony.organisation, ceremony.country, entry, folder="cas")
        except (ValueError, PkiError, CaError) as error:
            draft.refuse("order", "CPS 7.1", f"{entry.name}: {error}")
            continue
        if draft.standing.authority(order.name) is not None:
            draft.refuse("authority-exists", "CPS 6.1.1", f"there is an authority {order.name} already")
        if any(each.subject == order.subject for each in draft.standing.certificates.values()):
            draft.refuse("name-taken", "CPS 3.1.5", f"{order.id}: another certificate has this subject")
        draft.add_order(order)
        issuer = _authority_named(draft, str(order.issuer))
        if issuer is not None and issuer not in order.profile.role.profile.issuers:
            draft.refuse("issuer-role", "CPS 7.1", f"{order.id}: a {order.profile.role} is not certified by a {issuer}")
    orders = list(draft.orders.values())
    by_root = [order for order in orders if draft.standing.is_root(order.issuer)]
    for order in orders:
        draft.step("service", "key", order.id)
    for order in by_root:
        draft.step("root", "certificate", order.id)
    for order in by_root:
        draft.step("service", "attach", order.id)
    for order in orders:
        if order not in by_root:
            draft.step("service", "certificate", order.id)
    for order in orders:
        draft.step("service", "crl", order.id)
    draft.step("none", "check", "hierarchy")


def _authority_named(draft: Draft, name: str) -> str | None:
    """The role of an authority that is planned or in force."""
    planned = next((order for order in draft.orders.values() if order.name == name), None)
    if planned is not None:
        return planned.profile.role
    certificate = draft.standing.authority(name)
    return None if certificate is None else role_of(certificate)


def _draft_keys(draft: Draft, ceremony: KeyCeremony) -> None:
    for entry in ceremony.make:
        order = _system_key(draft, ceremony, entry)
        if order is None:
            continue
        if order.id in draft.standing.certificates:
            draft.refuse("key-certified", "CPS 6.1.1", f"{order.id} is certified already; it is renewed, not made")
        draft.step("service", "key", order.id)
    for entry in ceremony.renew:
        order = _system_key(draft, ceremony, entry)
        if order is None:
            continue
        known = draft.standing.certificates.get(order.id)
        if known is None:
            draft.refuse("key-unknown", "CPS 4.6", f"{order.id} has no certificate that could be renewed")
        else:
            draft.keys[order.id] = _expected(draft.keys[order.id], spki_sha256(certified_key(known)).hex())
            if known.subject != order.subject:
                draft.refuse("subject-changed", "CPS 4.6", f"{order.id}: a renewed certificate keeps its subject")
        draft.step("service", "find", order.id)
    for bare in ceremony.bare:
        try:
            key = _bare_key(draft, bare)
        except ValueError as error:
            draft.refuse("order", "CPS 6.1.1", f"{bare.name}: {error}")
            continue
        draft.keys[bare.name] = key
        draft.step("service", "key", bare.name)
    for identifier in draft.orders:
        draft.step("service", "certificate", identifier)
    if draft.orders:
        draft.step("none", "check", "hierarchy")


def _system_key(draft: Draft, ceremony: KeyCeremony, entry: SystemKeyEntry) -> Order | None:
    try:
        order = system_key_order(draft, ceremony.organisation, ceremony.country, entry)
    except (ValueError, PkiError, CaError) as error:
        draft.refuse("order", "CPS 7.1", f"{entry.name}: {error}")
        return None
    draft.add_order(order)
    return order


def _bare_key(draft: Draft, entry: BareKeyEntry) -> KeyOrder:
    template = draft.template(entry.template, certified=False)
    if template.holds or not template.is_pair:
        raise ValueError(f"keys of template {entry.template} are not bare key pairs")
    if template.owned != (entry.owner is not None):
        raise ValueError(f"a key of template {entry.template} {'needs an' if template.owned else 'has no'} owner")
    return KeyOrder(entry.name, template, owner=entry.owner)


def _draft_crl(draft: Draft, ceremony: CrlCeremony) -> None:
    root, old = draft.standing.authority(ceremony.root), draft.standing.crls.get(ceremony.root)
    if root is None or not draft.standing.is_root(ceremony.root):
        draft.refuse("root-unknown", "CPS 4.9.7", f"there is no root {ceremony.root}")
        return
    if old is None or not old.is_signature_valid(certified_key(root)):
        draft.refuse("root-crl", "CPS 4.9.7", "the root's CRL cannot be continued: there is none that the root signed")
    for entry in ceremony.revoke:
        certificate = draft.standing.certificates.get(entry.certificate)
        if certificate is None:
            draft.refuse("certificate-unknown", "CPS 4.9.2", f"there is no certificate {entry.certificate}")
        elif certificate.issuer != root.subject or certificate == root:
            message = f"{entry.certificate}: the root revokes what it certified, and not itself"
            draft.refuse("not-certified-by-root", "CPS 4.9.2", message)
        else:
            draft.revoke.append(Revoked(serial_hex(certificate.serial_number), entry.reason))
    draft.step("root", "crl", ROOT if ceremony.root == ROOT else f"{ROOTS}/{ceremony.root}")
    draft.step("none", "check", "hierarchy")


def _draft_rollover(draft: Draft, ceremony: RolloverCeremony) -> None:
    newest = draft.standing.newest_root
    assert newest is not None  # `plan` saw to it
    named = HashedRootKey.from_certificate(newest[1])
    waiting = None if named is None else draft.standing.keys.get(named.digest.hex())
    if named is None:
        draft.refuse("no-next-root", "RFC 8649 2", f"{newest[0]} names no root after it")
    if draft.standing.authority(ceremony.root.name) is not None or ceremony.root.name == ROOT:
        draft.refuse("root-exists", "CPS 6.1.1", f"there is a root {ceremony.root.name} already")
    elif waiting not in {None, ceremony.root.name}:
        draft.refuse("not-next-root", "RFC 8649 2", f"{newest[0]} names the key {waiting}, not {ceremony.root.name}")
    try:
        order = authority_order(
            draft,
            ceremony.organisation,
            ceremony.country,
            ceremony.root,
            folder=ROOTS,
            next_key=ceremony.next_root.name,
        )
        draft.keys[ceremony.next_root.name] = next_root_key(
            draft, ceremony.next_root, ceremony.organisation, ceremony.country
        )
    except (ValueError, PkiError, CaError) as error:
        draft.refuse("order", "CPS 7.1", f"{ceremony.root.name}: {error}")
        return
    if any(each.subject == order.subject for each in draft.standing.certificates.values()):
        draft.refuse("name-taken", "CPS 3.1.5", f"{order.id}: another certificate has this subject")
    draft.add_order(order)
    if named is not None:
        draft.keys[order.id] = _expected(draft.keys[order.id], named.digest.hex())
    draft.step("root", "find", order.id)
    draft.step("root", "key", ceremony.next_root.name)
    draft.step("root", "certificate", order.id)
    draft.step("root", "crl", order.id)
    draft.step("none", "check", "hierarchy")


def _draft_restore(draft: Draft, ceremony: RestoreCeremony, inputs: Mapping[str, bytes], now: datetime) -> None:
    if f"backup/{ceremony.backup}" not in inputs:
        draft.refuse("backup-missing", "CPS 6.2.4", f"there is no file {ceremony.backup} beside the ceremony file")
    else:
        try:
            _check_backup(draft, ceremony, inputs[f"backup/{ceremony.backup}"], now)
        except (ValueError, PkiError) as error:
            draft.refuse("backup", "CPS 6.2.4", f"{ceremony.backup}: {error}")
    draft.step("service", "restore", ceremony.key)


def _check_backup(draft: Draft, ceremony: RestoreCeremony, backup: bytes, now: datetime) -> None:
    """That it is a backup of this key by a service of this hierarchy; the token boundary asks more of it."""
    signed = open_signed(backup, oids.CT_KEY_BACKUP)
    validate_path(
        signed.signer,
        signed.certificates,
        trust=draft.standing.trust(),
        now=now,
        roles=[Role.SERVICE],
        check_revocation=False,  # as the token boundary does: the fingerprint of the recipient was approved
    )
    content = KeyBackup.from_der(signed.content)
    if content.key_name != ceremony.key:
        raise ValueError(f"it is a backup of the key {content.key_name}, not of {ceremony.key}")


def _draft_destroy(draft: Draft, ceremony: DestroyCeremony) -> None:
    for entry in ceremony.keys:
        subject = f"{entry.name}/{entry.version}"
        try:
            template = draft.template(entry.template, certified=False)
        except ValueError as error:
            draft.refuse("order", "CPS 6.2.10", f"{subject}: {error}")
            continue
        key = KeyOrder(entry.name, template, version=entry.version)
        draft.keys[subject] = key
        if ceremony.act == "schedule":
            draft.step(key.room, "disable", subject)
            draft.step(key.room, "schedule", subject)
        else:
            draft.step(key.room, "attest", subject)
    draft.steps.sort(key=lambda step: step.room != "service")  # a room is opened once


def _check_in_force(draft: Draft, now: datetime) -> None:
    """Whoever certifies is certified, in force and not revoked at `now`."""
    trust = draft.standing.trust()
    for issuer in dict.fromkeys(order.issuer for order in draft.orders.values() if order.issuer is not None):
        certificate = draft.standing.authority(issuer)
        if certificate is None:
            continue  # made in this ceremony, or found unknown already
        try:
            validate_path(certificate, trust=trust, now=now, roles=[role_of(certificate)])
        except PkiError as error:
            draft.refuse("issuer-not-in-force", "CPS 6.3.2", f"{issuer} may not certify now: {error}")
    root = draft.standing.certificates[ROOT]
    if not root.not_valid_before_utc <= now <= root.not_valid_after_utc:
        draft.refuse(
            "clock", "CPS 6.8", f"it is {now:%Y-%m-%d %H:%M:%S} here, and the root is not valid then: look at the clock"
        )


def _expected(key: KeyOrder, spki: str) -> KeyOrder:
    return KeyOrder(key.name, key.template, key.owner, key.version, key.subject, key.identity, spki)
