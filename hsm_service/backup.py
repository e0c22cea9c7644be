"""Backup and restore of keys whose templates allow it: out of one token, into one other, and nowhere in between.

    back up    the recipient key is attested by an installation of this hierarchy and has the fingerprint that was asked
               for and approved; the token wraps the key to it (`backup_process`); the attestation key signs the file
    restore    the file is signed, names this registry's key with its public key, and is wrapped to the recipient in
               this token; the token unwraps it, and it signs what the public key verifies (`restored_keys`)

A restored key is a replica: it takes over when the places before it do not serve. If the key's own token is lost for
good, the new one becomes its own (`replaces`), and what turns up on the old one later is a key that nobody knows.
A backup is asked for, approved, judged again and recorded as other operations are (`key_life`); a restore is a
ceremony's, at which people bring the file and the token together.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from audit.entry import JsonValue
from cps.signatory import open_signed
from hsm_service.access import permitted
from hsm_service.backup_file import SUITES, KeyBackup
from hsm_service.backup_process import Wrapped, wrap_out
from hsm_service.custody import Custody, Key
from hsm_service.errors import TokenNotFound
from hsm_service.key_states import KeyState
from hsm_service.operation_docket import Grant
from hsm_service.operation_request import KeyOperation
from hsm_service.operations import Executor, Operations
from hsm_service.purposes import Purpose
from hsm_service.record import Recorder
from hsm_service.service import KeyInfo
from hsm_service.templates import Operation
from hsm_service.token_layout import so_pin_file
from hsm_service.token_source import token_source
from pki import oids
from pki.attestation import KeyAttestation
from pki.der import sha256
from pki.errors import PkiError
from pki.names import identity_uris
from pki.path import Trust, validate_path
from pki.roles import Role
from runtime.problems import Problem
from runtime.secrets import read_secret
from runtime.settings import Home, Settings

Parameters = Mapping[str, Any]
WrapOut = Callable[[str, bytes, bytes, Sequence[str]], Wrapped]
"""(label of the token, CKA_ID, recipient SubjectPublicKeyInfo, suites) → the wrapped key."""
SignBackup = Callable[[bytes, Mapping[str, JsonValue]], bytes]
"""KeyBackup (DER) and fields for its record → SignedData by the attestation key."""

LARGEST_STATEMENT: Final = 16 * 1024
"""Bytes of an attestation, and of a backup."""


def wrap_out_of(home: Home) -> WrapOut:
    """Wrapping out of the tokens of an installation, which are where `token_source` says. A security officer who keeps
    the security officer's PIN elsewhere, as one should, puts its file there for the time of it.
    """

    def wrap(label: str, cka_id: bytes, recipient: bytes, suites: Sequence[str]) -> Wrapped:
        officer: Path = so_pin_file(home, label)
        if not officer.exists():
            raise TokenNotFound(f"a backup needs the security officer's PIN of token {label!r} in {officer}")
        source = token_source(home, Settings.load(home), label)
        return wrap_out(
            source.module,
            source.configuration,
            label,
            so_pin=read_secret(officer),
            pin=source.pin(),
            cka_id=cka_id,
            recipient=recipient,
            suites=suites,
        )

    return wrap


class Backups:
    """Backups of the keys in custody. Safe for threads."""

    def __init__(
        self,
        custody: Custody,
        recorder: Recorder,
        operations: Operations,
        *,
        info: Callable[[Key], KeyInfo],
        anchors: Callable[[], Sequence[x509.Certificate]],
        signer_uri: Callable[[], str],
        wrap_out: WrapOut,
        sign: SignBackup,
        clock: Callable[[], datetime],
    ) -> None:
        """`signer_uri` is the identity of attestation keys (`cps.model.Signers.key_attestation`)."""
        self._custody = custody
        self._recorder = recorder
        self._operations = operations
        self._info = info
        self._anchors = anchors
        self._signer_uri = signer_uri
        self._wrap_out = wrap_out
        self._sign = sign
        self._clock = clock
        operations.provide(KeyOperation.BACKUP, Executor(self._back_up_approved))

    # -- back up -------------------------------------------------------------------------------------------------------

    def back_up(
        self,
        caller: str,
        name: str,
        *,
        recipient: bytes,
        attestation: bytes,
        version: int | None = None,
        reason: str = "",
    ) -> bytes:
        """The key as a backup (DER SignedData) that only the token of `recipient` can take in.

        `recipient` is the DER SubjectPublicKeyInfo of an RSA key, `attestation` what its token states about it (DER
        SignedData, as `kwbp key attest` writes it). Officers approve the recipient's fingerprint. Raises Problem 422
        for an attestation that does not hold.
        """
        with self._recorder.refusals(Operation.BACKUP, caller, [name], None):
            key = self._to_be_backed_up(caller, name, version)
            token = self._check_recipient(recipient, attestation)
        parameters = {
            "key": name,
            "version": key.row.version,
            "template": key.template.name,
            "recipient_sha256": sha256(recipient).hex(),
            "recipient_token": token,
            "recipient": base64.b64encode(recipient).decode(),
        }
        granted = self._operations.ask(KeyOperation.BACKUP, caller, parameters, reason)
        return self._back_up(caller, parameters, granted)

    def _back_up_approved(self, requester: str, parameters: Parameters, granted: Grant) -> dict[str, Any]:
        backup = self._back_up(requester, parameters, granted)
        return {"key": parameters["key"], "backup": base64.b64encode(backup).decode()}

    def _back_up(self, caller: str, parameters: Parameters, granted: Grant) -> bytes:
        name, recipient = parameters["key"], base64.b64decode(parameters["recipient"])
        with self._recorder.refusals(Operation.BACKUP, caller, [name], None):
            key = self._to_be_backed_up(caller, name, parameters["version"])
        row = key.row
        fields: dict[str, JsonValue] = {
            "key": key.label,
            "recipient_sha256": parameters["recipient_sha256"],
            **granted.fields,
        }
        with self._recorder.operation(Operation.BACKUP, caller, None, fields) as outcome:
            # Out of the key's own token: a restored copy cannot leave again.
            wrapped = self._wrap_out(row.token, row.cka_id, recipient, SUITES)
            assert row.public_key is not None  # only pairs are backed up
            content = KeyBackup(
                key_name=row.name,
                key_version=row.version,
                template=row.template,
                owner=row.owner,
                spki=row.public_key,
                recipient=sha256(recipient),
                suite=wrapped.suite,
                encrypted_key=wrapped.encrypted_key,
                wrapped=wrapped.wrapped,
                at=self._clock(),
            ).to_der()
            backup = self._sign(content, {"backup_of": key.label, "asked_by": caller})
            outcome.output_sha256 = sha256(backup).hex()
        return backup

    def _to_be_backed_up(self, caller: str, name: str, version: int | None) -> Key:
        key = permitted(self._custody, caller, Operation.BACKUP, name, version)
        if not key.row.backup:
            raise Problem(409, "key-not-backed-up", f"key {name} was made so that it cannot leave its token")
        key.use()
        return key

    def _check_recipient(self, recipient: bytes, attestation: bytes) -> str:
        """The token of the recipient key, if it is attested; Problem 422 otherwise."""
        content = self._statement(attestation, oids.CT_KEY_ATTESTATION)
        try:
            stated = KeyAttestation.from_der(content)
        except PkiError as error:
            raise Problem(422, "bad-attestation", f"the attestation cannot be read: {error}") from None
        if stated.spki_sha256 != sha256(recipient):
            raise Problem(422, "bad-attestation", "the attestation is of another key than the recipient")
        if not stated.born_and_bound_in_token:
            raise Problem(422, "bad-attestation", "the recipient key can leave its token, or was not made there")
        return stated.token

    # -- restore -------------------------------------------------------------------------------------------------------

    def restore(self, caller: str, backup: bytes, *, recipient: str, replaces: bool = False) -> KeyInfo:
        """Takes the key of a backup into the token of the key `recipient`, as a replica. A second time does nothing.

        With `replaces`, that token becomes the key's own, because the one that was is lost for good; Problem 409 while
        that one serves. For ceremonies alone (Problem 403).
        """
        content, key = self._read(caller, backup, recipient)
        former, (token, ref) = key.row.token, self._custody.find(recipient).use()
        fields: dict[str, JsonValue] = {
            "key": key.label,
            "keys": [self._custody.find(recipient).label],
            "token": token.label,
            "replaces": former if replaces else None,
        }
        with self._recorder.refusals(Operation.RESTORE, caller, [key.row.name], sha256(backup).hex()):
            if former == token.label and not (replaces and key.row.restored):
                raise Problem(409, "key-exists", f"key {key.label} is of that token already")
            if (
                replaces
                and any(place.label == former and place.healthy for place in key.places)
                and former != token.label
            ):
                raise Problem(409, "token-not-lost", f"token {former} serves key {key.label}; nothing replaces it")
        with self._recorder.operation(Operation.RESTORE, caller, sha256(backup).hex(), fields):
            if former != token.label:
                # First the row: a process killed in between leaves a replica that is missing, not an object nobody
                # knows.
                key = self._custody.add_replica(key, token.label)
            if token.find(cka_id=key.row.cka_id) is None:
                token.restore_pair(
                    ref,
                    key.row.name,
                    key.row.cka_id,
                    content.spki,
                    content.suite,
                    content.encrypted_key,
                    content.wrapped,
                )
            key = self._custody.look_again(key)
            if replaces and former != token.label:
                key = self._custody.move(key, token.label)
            return self._info(key)

    def _read(self, caller: str, backup: bytes, recipient: str) -> tuple[KeyBackup, Key]:
        """The content of a backup of a key that we have, wrapped to our recipient; Problem otherwise, recorded."""
        with self._recorder.refusals(Operation.RESTORE, caller, [recipient], sha256(backup).hex()):
            try:
                content = KeyBackup.from_der(self._statement(backup, oids.CT_KEY_BACKUP))
            except PkiError as error:
                raise Problem(422, "bad-backup", f"the backup cannot be read: {error}") from None
            key = permitted(self._custody, caller, Operation.RESTORE, content.key_name, content.key_version)
            if self._operations.is_controlled(KeyOperation.RESTORE, caller, {"template": key.template.name}):
                raise Problem(403, "ceremony-only", "a backup is restored at a ceremony alone", clause="CPS 6.2.1")
            row, to = key.row, self._custody.find(recipient)
            if (row.public_key, row.template, row.owner) != (content.spki, content.template, content.owner):
                raise Problem(422, "bad-backup", f"the backup is not of the key that is registered as {key.label}")
            if row.state in {KeyState.PENDING, KeyState.DESTROYED, KeyState.DESTROY_SCHEDULED}:
                raise Problem(409, "key-state", f"key {key.label} is {row.state}; it is not restored")
            if to.template.purpose is not Purpose.RESTORE or to.row.public_key is None:
                raise Problem(409, "key-misused", f"key {recipient} restores nothing")
            if sha256(to.row.public_key) != content.recipient:
                raise Problem(422, "bad-backup", f"the backup is wrapped to another key than {recipient}")
        return content, key

    def _statement(self, der: bytes, content_type: x509.ObjectIdentifier) -> bytes:
        """The content of SignedData by an attestation key of this hierarchy; Problem 422 if it is not that."""
        if len(der) > LARGEST_STATEMENT:
            raise Problem(413, "statement-too-large", f"a statement has at most {LARGEST_STATEMENT} bytes")
        try:
            signed = open_signed(der, content_type)
            trust = Trust(anchors=tuple(self._anchors()))
            validate_path(
                signed.signer,
                signed.certificates,
                trust=trust,
                now=self._clock(),
                roles={Role.SERVICE},
                check_revocation=False,  # whom to wrap to is approved by its fingerprint
            )
        except PkiError as error:
            raise Problem(422, "bad-statement", f"it is no statement of a service of this hierarchy: {error}") from None
        if self._signer_uri() not in identity_uris(signed.signer):
            raise Problem(422, "bad-statement", "it is signed by another service", clause="CPS 4.2.1")
        return signed.content
