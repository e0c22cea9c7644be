"""The vault: the one door to the keys. It asks who calls, what for and about what, records it, and calls the token.

The API server and a ceremony use the same vault: the caller comes from a client certificate in the one, and is
`ceremony` in the other. What is done with a key stands in `hsm_service.signing`, `hsm_service.key_management` and, for
plug-ins, `hsm_service.lending`; this module opens tokens, registry and journal, and puts the parts together.

All methods block but those that return steps (`hsm_service.steps`); they are safe for threads. They raise `Problem`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from cryptography import x509

from audit import Journal
from audit.entry import JsonValue
from hsm_service.access import CEREMONY, permitted
from hsm_service.attestation import attestation_of
from hsm_service.backup import Backups, WrapOut, wrap_out_of
from hsm_service.beliefs import Beliefs
from hsm_service.bound import BoundVault
from hsm_service.custody import Custody, Key
from hsm_service.errors import HsmError
from hsm_service.key_check import report, report_unfit
from hsm_service.key_life import KeyLife
from hsm_service.key_management import SERVICE, KeyManagement
from hsm_service.kinds import Fields
from hsm_service.ledger import Ledger
from hsm_service.lending import Lending
from hsm_service.limits import Meter
from hsm_service.operation_docket import Approving, Docket
from hsm_service.operation_store import OperationStore
from hsm_service.operations import Operations
from hsm_service.provision import open_token, supervise_token
from hsm_service.record import Recorder
from hsm_service.registry import Registry
from hsm_service.service import Basis, KeyInfo, SignCommand, Signed, SignedCrl
from hsm_service.signing import Signing
from hsm_service.steps import Steps, run
from hsm_service.supervised import SupervisedToken
from hsm_service.templates import Operation, built_in
from hsm_service.token_operations import TokenOperations
from hsm_service.token_source import token_source
from hsm_service.typed_cms import ContentValidator, built_in_content_types
from hsm_service.upkeep import Upkeep
from hsm_service.zone_working_keys import ZoneWorkingKeys
from pki import oids
from pki.der import sha256
from pki.rollover import next_roots
from runtime.database import open_database
from runtime.problems import Problem
from runtime.secrets import Secret
from runtime.settings import Home, Settings
from statements.published import PublishedStatements, Statements, founding_only

SERVICE_TOKENS: Final = ("ca", "gateway", "merchants", "standby")
ROOT_TOKENS: Final = ("root",)
_ATTESTATION: Final = "attestation"
_OPENING: Final = 5.0
"""Seconds that opening waits for tokens in processes of their own: a service whose tokens are there starts whole."""

T = TypeVar("T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Vault:
    """Open tokens, their key registry and the audit journal. Make one with `open` or `open_root`; close it."""

    def __init__(
        self,
        tokens: Mapping[str, TokenOperations],
        registry: Registry,
        journal_path: Path,
        *,
        answers: Path,
        content_types: Mapping[str, ContentValidator],
        anchors: Callable[[], Sequence[x509.Certificate]],
        statements: Statements,
        requests: OperationStore,
        approving: Approving,
        wrap_out: WrapOut,
        clock: Callable[[], datetime],
        extends: tuple[int, bytes] | None = None,
        statement: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """`statements` are the published versions of the CPS; `statement` tells of them for people."""
        self.statement: Final = statement
        self.clock: Final = clock
        self.answers: Final = answers
        """Where answers that may be asked for again are kept (`hsm_service.idempotency`)."""
        self._clock = clock
        self._upkeep: Upkeep | None = None
        self._tokens = tokens
        self._registry = registry
        self._requests = requests
        ledger = Ledger()
        self.journal: Final = Journal.open(journal_path, clock=clock, replay=ledger.replay, extends=extends)
        try:
            self._custody = Custody(tokens, registry, built_in(), clock=clock)
        except BaseException:
            self.journal.close()
            raise
        self._recorder = Recorder(self.journal, ledger, built_in().digest)
        self._recorder.own_up()
        judges = {**built_in_content_types(), **content_types}
        self._meter = Meter(ledger.uses)
        beliefs, trust = Beliefs(self._custody, ledger, anchors, statements), approving.trust
        approving = Approving(lambda: beliefs.in_force(trust()), approving.policy)
        self.trust: Final = approving.trust
        """What officers' signatures are judged by."""
        docket = Docket(requests, approving, statements, record=self._recorder.note, clock=clock)
        self.operations: Final = Operations(docket)
        self.signing: Final = Signing(
            self._custody, ledger, self._recorder, judges, beliefs.now, self.operations, self._meter, clock
        )
        self.keys: Final = KeyManagement(
            self._custody, self._meter, self._recorder, self.operations, anchors=anchors, clock=clock
        )
        self.backups: Final = Backups(
            self._custody,
            self._recorder,
            self.operations,
            info=self.keys.info,
            anchors=anchors,
            signer_uri=lambda: statements().in_force(clock()).signers.key_attestation,
            wrap_out=wrap_out,
            sign=self._sign_backup,
            clock=clock,
        )
        self.zone_keys: Final = ZoneWorkingKeys(self._custody, self._recorder, clock=clock)
        self.lending: Final = Lending(self._custody, self._recorder, self._meter, clock)
        """Keys for plug-ins, each time for one recorded operation."""
        self.life: Final = KeyLife(self._custody, self._recorder, self.operations, info=self.keys.info, clock=clock)

    @classmethod
    def open(
        cls,
        home: Home,
        tokens: Sequence[str] = SERVICE_TOKENS,
        *,
        content_types: Mapping[str, ContentValidator] | None = None,
        clock: Callable[[], datetime] = _utc_now,
        sessions: int = 8,
        extends: tuple[int, bytes] | None = None,
        approving: Approving | None = None,
        isolated: Settings | None = None,
    ) -> Self:
        """Opens the services' tokens of an installation, with the registry `db/keys.db` and journal `audit/hsm.jsonl`.

        `content_types` are the judges of message contents by dotted OID; a content without a judge is never signed.
        `sessions` is how many token operations run at once, a token. `extends` is the tree that the journal must extend
        (`audit.keeper`), `approving` what officers' approvals are judged by. With `isolated`, the installation's
        settings, each token is opened in a process of its own (`hsm_service.supervised`) and keys are checked on a
        clock: how a service runs. A token that is away keeps nothing from opening; its keys serve when it comes back.
        Raises HsmError, AuditError (a journal that is not whole keeps the vault shut), SecretFileError.
        """
        judges = content_types or {}
        return cls._open(home, tokens, "keys.db", "hsm.jsonl", judges, clock, sessions, extends, approving, isolated)

    @classmethod
    def open_root(cls, home: Home, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """Opens the root token alone, with a registry and a journal of its own. Only ceremonies do this.

        A process has the root's token open or the services', never both (ModuleBusy).
        """
        return cls._open(home, ROOT_TOKENS, "root-keys.db", "root.jsonl", {}, clock, 2)

    @classmethod
    def _open(
        cls,
        home: Home,
        labels: Sequence[str],
        database: str,
        journal: str,
        content_types: Mapping[str, ContentValidator],
        clock: Callable[[], datetime],
        sessions: int,
        extends: tuple[int, bytes] | None = None,
        approving: Approving | None = None,
        isolated: Settings | None = None,
    ) -> Self:
        with contextlib.ExitStack() as opened:
            tokens: dict[str, TokenOperations] = {}
            for label in labels:
                if isolated is None:
                    tokens[label] = opened.enter_context(open_token(home, label, sessions=sessions))
                else:
                    source = token_source(home, isolated, label)
                    supervised_token = supervise_token(
                        home,
                        label,
                        source=source,
                        deadline=isolated.hsm.call_deadline,
                        slow_deadline=isolated.hsm.slow_call_deadline,
                        start_deadline=isolated.hsm.start_deadline,
                    )
                    tokens[label] = opened.enter_context(supervised_token)
            deadline = time.monotonic() + _OPENING
            for token in tokens.values():
                if isinstance(token, SupervisedToken):
                    token.wait_healthy(max(0.0, deadline - time.monotonic()))
            registry = Registry(open_database(home.db / database), clock=clock)
            opened.callback(registry.close)
            requests = OperationStore(open_database(home.db / database))
            opened.callback(requests.close)
            # Without officers nobody can have published anything that counts.
            published: PublishedStatements | None = None
            if approving is not None:
                own = home.db / "statements-hsm"
                published = PublishedStatements(home.cps, own=own, trust=lambda: vault.trust(), clock=clock)
            vault = cls(
                tokens,
                registry,
                home.audit / journal,
                answers=home.db / f"answers-{journal.removesuffix('.jsonl')}.db",
                content_types=content_types,
                anchors=lambda: _read_anchors(home.trust_anchors),
                statements=published or founding_only(),
                requests=requests,
                approving=approving or Approving(),
                wrap_out=wrap_out_of(home),
                clock=clock,
                extends=extends,
                statement=dict if published is None else lambda: published.details,
            )
            opened.callback(vault.close)
            if published is not None and approving is not None:
                approving.policy.check_roles(published.refresh().in_force(clock()))
            if isolated is not None:
                supervised = {label: each for label, each in tokens.items() if isinstance(each, SupervisedToken)}
                vault._upkeep = Upkeep(vault, supervised, isolated.hsm)
            opened.pop_all()
        return vault

    def hear_on(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Has tokens in processes of their own answered on the event loop; None: in threads again."""
        for token in self._tokens.values():
            if isinstance(token, SupervisedToken):
                token.hear_on(loop)

    def close(self) -> None:
        """Flushes the journal, logs out of the tokens, lets go of the registry. May be called twice.

        What is still under way has an unknown outcome from now on: the last entries of the journal.
        """
        if self._upkeep is not None:
            self._upkeep.close()
        self._recorder.close()
        self.journal.close()
        # Together: each that hangs takes its time to be given up.
        closing = [threading.Thread(target=token.close, name=f"close-{label}") for label, token in self._tokens.items()]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self._registry.close()
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Whether operations can be recorded and every token serves, and signed for its last self-test; cheap."""
        return self.journal.usable and (self._upkeep is None or self._upkeep.well)

    @property
    def token_states(self) -> dict[str, str]:
        """Of each token in a process of its own whether it is `ready`, or why not, in a word; cheap."""
        return {} if self._upkeep is None else self._upkeep.states

    def hasten(self, *, more: bool = False) -> None:
        """The service is about to end: tokens are given a few seconds for what they were asked; less if `more`."""
        if self._upkeep is not None:
            self._upkeep.hasten(more=more)

    def note(self, entry: Mapping[str, JsonValue]) -> int:
        """Records what is nobody's operation; returns the number of the record."""
        return self._recorder.note(entry)

    def as_caller(self, caller: str) -> BoundVault:
        """The vault as one caller sees it: the `SigningService` interface."""
        return BoundVault(self, caller)

    # -- keys: `hsm_service.key_management` ----------------------------------------------------------------------------

    def generate_key(
        self, caller: str, name: str, template: str, *, owner: str | None = None, reason: str = ""
    ) -> KeyInfo:
        """Makes a key in the template's token; ApprovalNeeded if officers must approve it first."""
        return self.keys.generate_key(caller, name, template, owner=owner, reason=reason)

    def import_zone_key(self, caller: str, name: str, template: str, components: Sequence[Secret]) -> KeyInfo:
        """Loads a zone key from its components."""
        return self.keys.import_zone_key(caller, name, template, components)

    def describe_key(self, caller: str, name: str, version: int | None = None) -> KeyInfo:
        """A key, by default the version in use."""
        return self.keys.describe_key(caller, name, version)

    def list_versions(self, caller: str, name: str) -> list[KeyInfo]:
        """Every version of a key."""
        return self.keys.list_versions(caller, name)

    def list_keys(self, caller: str) -> list[KeyInfo]:
        """Every key that the caller may use or manage."""
        return self.keys.list_keys(caller)

    def attach_certificate(self, caller: str, name: str, chain: Sequence[bytes]) -> KeyInfo:
        """Gives the key its certificate chain."""
        return self.keys.attach_certificate(caller, name, chain)

    # -- signatures: `hsm_service.signing`, run to the end in this thread ----------------------------------------------

    def sign(
        self, caller: str, name: str, command: SignCommand, version: int | None = None, fields: Fields | None = None
    ) -> Signed:
        """Signs any kind of structure."""
        return self.run(self.signing.sign(caller, name, command, version, fields))

    def sign_certificate(
        self, caller: str, name: str, tbs: bytes, version: int | None = None, *, basis: Basis | None = None
    ) -> Signed:
        """TBSCertificate → Certificate."""
        return self.sign(caller, name, SignCommand("certificate", tbs, basis=basis), version)

    def sign_crl(self, caller: str, name: str, tbs: bytes, version: int | None = None) -> Signed:
        """TBSCertList → CertificateList."""
        return self.sign(caller, name, SignCommand("crl", tbs), version)

    def sign_crl_parts(self, caller: str, name: str, parts: Iterable[bytes], version: int | None = None) -> SignedCrl:
        """TBSCertList in pieces → what follows it in the CertificateList."""
        reader = self.run(self.signing.read_crl(caller, name, version))
        for part in parts:
            try:
                reader.feed(part)
            except Problem as problem:
                self.run(self.signing.refuse_crl(caller, name, problem))
        return self.run(self.signing.sign_crl(caller, name, reader, version))

    def sign_cms(self, caller: str, name: str, content_type: str, content: bytes, version: int | None = None) -> Signed:
        """Content → SignedData."""
        return self.sign(caller, name, SignCommand("cms", content, content_type), version)

    def sign_request(self, caller: str, name: str, info: bytes, version: int | None = None) -> Signed:
        """CertificationRequestInfo → PKCS#10 request."""
        return self.sign(caller, name, SignCommand("request", info), version)

    def run(self, steps: Steps[T]) -> T:
        """Runs steps to their end in this thread."""
        return run(steps, self.journal)

    def attest_key(self, caller: str, name: str) -> Signed:
        """KeyAttestation of the key, signed by the attestation key of this installation."""
        with self._recorder.refusals(Operation.ATTEST, caller, [name], None):
            key = permitted(self._custody, caller, Operation.ATTEST, name)
            signer = self._attestation_key()
            content = attestation_of(key, self._clock())
        fields: dict[str, JsonValue] = {"attested": key.label, "asked_by": caller}
        command = SignCommand("cms", content, oids.CT_KEY_ATTESTATION.dotted_string)
        return self.sign(SERVICE, signer, command, fields=fields)

    def seal_ceremony(self, caller: str, content: bytes) -> Signed:
        """CeremonySeal (DER) that participants signed → SignedData of the attestation key; for ceremonies alone."""
        signer = self._attestation_key()
        with self._recorder.refusals(Operation.CMS, caller, [signer], sha256(content).hex()):
            if caller != CEREMONY:
                raise Problem(403, "caller-not-allowed", f"a transcript is sealed by the {CEREMONY}, not by {caller}")
        fields: dict[str, JsonValue] = {"asked_by": caller}
        command = SignCommand("cms", content, oids.CT_CEREMONY_SEAL.dotted_string)
        return self.sign(SERVICE, signer, command, fields=fields)

    def _sign_backup(self, content: bytes, fields: Mapping[str, JsonValue]) -> bytes:
        command = SignCommand("cms", content, oids.CT_KEY_BACKUP.dotted_string)
        return self.sign(SERVICE, self._attestation_key(), command, fields=fields).signed

    def _attestation_key(self) -> str:
        """Its name; Problem 409 before there is one."""
        signer = next((each for each in self._custody.all() if each.template.name == _ATTESTATION), None)
        if signer is None:
            raise Problem(409, "no-attestation-key", "this installation has no attestation key yet")
        return signer.row.name

    # -- plug-ins ------------------------------------------------------------------------------------------------------

    def refused(self, caller: str, what: str, keys: Sequence[str], problem: Problem) -> None:
        """Records what was refused before it came here (`hsm_service.refusals`)."""
        self._recorder.refused(what, caller, keys, problem)

    def key(self, name: str) -> Key:
        """A key with its certificates, whoever asks: for plug-ins, which check input against it. Problem 404."""
        return self._custody.find(name)

    def knows(self, name: str) -> bool:
        """Whether there is a key of this name."""
        return self._registry.find(name) is not None

    def versions(self, name: str) -> list[Key]:
        """Every version of a key, the newest first, whoever asks: as `key`, for what may be sealed to an older one."""
        return self._custody.versions(name)

    def check_keys(self) -> None:
        """Looks at every key in its tokens again and destroys what is due (`hsm_service.key_check`); blocks."""
        self._custody.check()
        self.life.destroy_due()
        report(self._custody.faults())
        if self._upkeep is not None:
            for label, token in self._tokens.items():
                with contextlib.suppress(HsmError):  # it was told of already
                    report_unfit(label, self._custody.unfit(token))


def _read_anchors(path: Path) -> list[x509.Certificate]:
    """The pinned root and those that follow it in `roots/*.cer` beside it (RFC 8649); none before the founding.

    A file there that is no root, or not the one that was named, is not believed, whoever put it there.
    """
    if not path.exists():
        return []
    pinned, later = x509.load_pem_x509_certificates(path.read_bytes()), []
    for file in sorted((path.parent / "roots").glob("*.cer")):
        with contextlib.suppress(OSError, ValueError):
            later.append(x509.load_der_x509_certificate(file.read_bytes()))
    return [*pinned, *next_roots(pinned[0], later)] if later else pinned
