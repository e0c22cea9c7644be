"""Keys made, loaded, described and given their certificates: the vault's part beside signing.

Each act is recorded: a refusal, or an intent before anything is touched and an outcome after. All methods block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from audit.entry import JsonValue
from hsm_service.access import CEREMONY, check_name, permit, permitted
from hsm_service.chain import check_chain
from hsm_service.custody import Custody, Key
from hsm_service.key_states import KeyState
from hsm_service.key_versions import Standing
from hsm_service.kinds import hexdigest
from hsm_service.limits import Meter
from hsm_service.operation_docket import Grant
from hsm_service.operation_request import KeyOperation
from hsm_service.operations import Executor, Operations
from hsm_service.purposes import Purpose
from hsm_service.record import Recorder
from hsm_service.service import KeyInfo
from hsm_service.templates import Operation, Template
from pki.keys import spki_der
from runtime.problems import Problem
from runtime.secrets import Secret

SERVICE: Final = "service:hsm"
"""As whom the service uses keys of its own."""
TAKE_BACK: Final = "take-back"
"""How the journal calls the end of a key that a ceremony made and undid."""
_PROBES: Final = ("probe", "probe-rsa")


class KeyManagement:
    """What is done with keys beside signing. Safe for threads."""

    def __init__(
        self,
        custody: Custody,
        meter: Meter,
        recorder: Recorder,
        operations: Operations,
        *,
        anchors: Callable[[], Sequence[x509.Certificate]],
        clock: Callable[[], datetime],
    ) -> None:
        self._custody = custody
        self._meter = meter
        self._recorder = recorder
        self._operations = operations
        self._anchors = anchors
        self._clock = clock
        operations.provide(KeyOperation.GENERATE, Executor(self._generate_approved, self._was_generated))

    def generate_key(
        self, caller: str, name: str, template: str, *, owner: str | None = None, reason: str = ""
    ) -> KeyInfo:
        """Makes a key in the template's token; see `SigningService`.

        Raises ApprovalNeeded if officers must approve it first; `reason` is what they read.
        """
        with self._recorder.refusals(Operation.GENERATE, caller, [name], None):
            found = self._to_be_generated(caller, name, template, owner)
        parameters = {**_made(name, found, owner), "algorithm": found.algorithm}
        granted = self._operations.ask(KeyOperation.GENERATE, caller, parameters, reason)
        return self._generate(caller, name, found, owner, granted)

    def _generate_approved(self, caller: str, parameters: Mapping[str, Any], granted: Grant) -> dict[str, Any]:
        name, template, owner = (parameters[each] for each in ("key", "template", "owner"))
        with self._recorder.refusals(Operation.GENERATE, caller, [name], None):
            found = self._to_be_generated(caller, name, template, owner)
        info = self._generate(caller, name, found, owner, granted)
        return {"key": info.name, "version": info.version}

    def _was_generated(self, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        key = next((each for each in self._custody.all() if each.row.name == parameters["key"]), None)
        if key is None or key.row.state is KeyState.PENDING:
            return None
        if (key.row.template, key.row.owner) != (parameters["template"], parameters["owner"]):
            return None
        return {"key": key.row.name, "version": key.row.version}

    def _generate(self, caller: str, name: str, found: Template, owner: str | None, granted: Grant) -> KeyInfo:
        fields = {**_made(name, found, owner), **granted.fields}
        with self._recorder.operation(Operation.GENERATE, caller, None, fields) as outcome:
            key = self._custody.generate(name, found, owner, self._clock())
            outcome.output_sha256 = hexdigest(key.row.public_key) if key.row.public_key else None
        return self.info(key)

    def import_zone_key(self, caller: str, name: str, template: str, components: Sequence[Secret]) -> KeyInfo:
        """Loads a zone key from its components (each 16 bytes; the key is their XOR)."""
        with self._recorder.refusals(Operation.GENERATE, caller, [name], None):
            found = self._to_be_made(caller, name, template, None)
            if not found.imported:
                raise Problem(409, "key-is-generated", f"a {template} key is made in its token, never loaded")
            if self._operations.is_controlled(KeyOperation.IMPORT, caller, {"template": template}):
                raise Problem(403, "ceremony-only", "components are read in at a ceremony alone", clause="CPS 6.1.1")
        with self._recorder.operation(Operation.GENERATE, caller, None, _made(name, found, None)):
            key = self._custody.import_zone_key(name, found, components, self._clock())
        return self.info(key)

    def take_back(self, caller: str, name: str) -> None:
        """Destroys a key that a ceremony made and no authority in force certified, and frees its name.

        Problem 403 for anybody but a ceremony; Problem 409 for a key of several versions, or one that is certified.
        """
        with self._recorder.refusals(TAKE_BACK, caller, [name], None):
            if caller != CEREMONY:
                raise Problem(403, "ceremony-only", "a key is taken back by the ceremony that made it")
            key = permitted(self._custody, caller, Operation.DESTROY, name)
            if key.row.version != 1 or len(self._custody.versions(name)) != 1:
                raise Problem(409, "key-in-service", f"key {name} was rotated; it is destroyed, not taken back")
            if _is_certified(key, self._anchors()):
                raise Problem(409, "key-certified", f"key {name} has a certificate of this hierarchy")
        with self._recorder.operation(TAKE_BACK, caller, None, {"key": key.label}):
            self._custody.take_back(key)

    def probe_key(self, label: str) -> Key:
        """The key with which the token `label` shows that it signs, made by the service itself if there is none yet.

        Raises Problem 409 for a token that can have none, HsmError.
        """
        name = f"probe-{label}"
        if not self._custody.knows(name):
            token = self._custody.token(label)
            kinds = [self._custody.template(each) for each in _PROBES]
            fitting = [each for each in kinds if not token.capabilities.lacks(each.purpose, each.algorithm)]
            if not fitting:
                raise Problem(409, "token-lacks-abilities", f"token {label} can have no probe key")
            template = fitting[0].model_copy(update={"token": label})
            with self._recorder.operation(Operation.GENERATE, SERVICE, None, _made(name, template, None)) as outcome:
                key = self._custody.generate(name, template, None, self._clock())
                outcome.output_sha256 = hexdigest(key.row.public_key) if key.row.public_key else None
        return self._custody.find(name)

    def describe_key(self, caller: str, name: str, version: int | None = None) -> KeyInfo:
        """A key, by default the version in use."""
        with self._recorder.refusals(Operation.DESCRIBE, caller, [name], None):
            return self.info(permitted(self._custody, caller, Operation.DESCRIBE, name, version))

    def list_versions(self, caller: str, name: str) -> list[KeyInfo]:
        """Every version of a key, the oldest first."""
        with self._recorder.refusals(Operation.DESCRIBE, caller, [name], None):
            permitted(self._custody, caller, Operation.DESCRIBE, name)
            return [self.info(key) for key in self._custody.all() if key.row.name == name]

    def list_keys(self, caller: str) -> list[KeyInfo]:
        """Every key that the caller may use or manage."""
        return [
            self.info(key)
            for key in self._custody.all()
            if key.template.permits(caller, Operation.DESCRIBE, key.row.owner)
        ]

    def attach_certificate(self, caller: str, name: str, chain: Sequence[bytes]) -> KeyInfo:
        """Gives the version that the first certificate is for its chain (DER, its own first, without the root)."""
        digest = hexdigest(b"".join(chain))
        with self._recorder.refusals(Operation.ATTACH, caller, [name], digest):
            key = permitted(self._custody, caller, Operation.ATTACH, name)
            key = self._version_of(name, chain) or key
            check_chain(chain, key.pair(), key.row.owner, self._anchors())
        fields: dict[str, JsonValue] = {"key": key.label, "certificate_sha256": hexdigest(chain[0])}
        with self._recorder.operation(Operation.ATTACH, caller, digest, fields):
            return self.info(self._custody.attach(key, chain))

    def _version_of(self, name: str, chain: Sequence[bytes]) -> Key | None:
        """The version of the key that the first certificate is for; None if there is none, or it cannot be read."""
        try:
            spki = spki_der(x509.load_der_x509_certificate(chain[0]).public_key()) if chain else None
        except (ValueError, UnsupportedAlgorithm):
            return None  # `check_chain` says what is wrong with it
        return next((key for key in self._custody.versions(name) if spki and key.row.public_key == spki), None)

    def info(self, key: Key) -> KeyInfo:
        """The key as its callers see it."""
        row = key.row
        return KeyInfo(
            name=row.name,
            version=row.version,
            template=row.template,
            purpose=key.template.purpose.value,
            algorithm=key.template.algorithm,
            token=row.token,
            owner=row.owner,
            state=row.state.value,
            created=row.created.isoformat(),
            public_key=row.public_key or b"",
            attributes=dict(key.attributes),
            uses=self._meter.uses(row.name, row.version),
            content_types=key.template.content_type_oids,
            callers=key.template.users(row.owner),
            certificate_chain=row.chain,
            suites=_suites(key),
            raw=key.template.purpose is Purpose.RAW,
            unusable=key.unusable if row.state is KeyState.ENABLED else None,
            in_use=key.standing is Standing.IN_USE,
            activates_at=_text(row.activates_at),
            retires_at=_text(row.retires_at),
            destroy_at=_text(row.destroy_at),
            limits=key.limits.model_dump(mode="json", exclude_none=True),
            replicas=row.replicas,
            backup=row.backup,
        )

    def _to_be_generated(self, caller: str, name: str, template: str, owner: str | None) -> Template:
        found = self._to_be_made(caller, name, template, owner)
        if found.imported:
            raise Problem(409, "key-is-imported", f"a {template} key is loaded from components at a ceremony")
        return found

    def _to_be_made(self, caller: str, name: str, template: str, owner: str | None) -> Template:
        found = self._custody.template(template)
        if owner is not None:  # before it stands in a pattern
            check_name("owner", owner)
        permit(found, caller, Operation.GENERATE, owner, name)
        check_name("name", name)
        if found.owned != (owner is not None):
            needed = "needs an owner" if found.owned else "has no owner"
            raise Problem(422, "bad-owner", f"a key of template {template} {needed}")
        token = self._custody.check_free(name, found)
        if lacks := token.capabilities.lacks(found.purpose, found.algorithm):
            # A key that its token cannot use as its purpose needs would be found out by the first who needs it.
            reasons = "; ".join(each.refusal for each in lacks)
            raise Problem(409, "token-lacks-abilities", f"token {token.label} cannot serve {found.purpose}: {reasons}")
        return found


def _is_certified(key: Key, anchors: Sequence[x509.Certificate]) -> bool:
    """Whether the key's chain leads to a pinned root."""
    if not key.row.chain:
        return False
    last = x509.load_der_x509_certificate(key.row.chain[-1])
    return any(last.issuer == anchor.subject for anchor in anchors)


def _suites(key: Key) -> tuple[str, ...]:
    """What the token was seen to open, never what its maker says."""
    if key.template.purpose is not Purpose.OPEN_ORDER or key.token is None:
        return ()
    return tuple(key.token.capabilities.sealing_suites)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _made(name: str, template: Template, owner: str | None) -> dict[str, JsonValue]:
    return {"key": name, "template": template.name, "token": template.token, "owner": owner}
