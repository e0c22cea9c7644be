"""Signing, for every kind of structure: one path, one table.

    judge      the key exists, serves, lets this caller do this, and the structure is one it may sign; a refusal is
               recorded
    turn       the token can take one thing more
    claim      what must not be signed twice is claimed (hsm_service.ledger)
    intend     the intent is on the disk before the token is called
    call       the token signs
    conclude   the outcome is on the disk before the answer leaves

What kinds there are, and what each takes beside its content, stands in `KINDS`. Everything here is steps
(`hsm_service.steps`): it computes and waits for nothing itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from audit.entry import JsonValue
from hsm_service import typed
from hsm_service.access import permitted
from hsm_service.custody import Custody, Key
from hsm_service.ledger import Claim, CrlClaim, Ledger, SerialClaim
from hsm_service.record import Recorder, problem_of
from hsm_service.request import assemble_request
from hsm_service.schemes import Scheme, message_scheme, x509_scheme
from hsm_service.service import Checked, SignCommand, Signed, SignKind
from hsm_service.steps import Call, Record, Steps, Turn
from hsm_service.templates import Operation, Purpose
from hsm_service.typed import ContentValidator, SigningKey
from pki.builder import assemble_certificate, assemble_crl
from runtime.problems import Problem

LARGEST_BATCH: Final = 1_000
"""Structures in one batch."""
_RECORDED_TOGETHER: Final = 250
"""Structures of a batch that share an intent and an outcome: so many digests fit into an entry of the journal."""

Fields = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Context:
    """What judges may know beside the key and the structure."""

    content_types: Mapping[str, ContentValidator]
    ledger: Ledger
    now: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A structure that was judged: what the token signs and how, what becomes of the signature, what is recorded.

    `to_sign` are the bytes that the signature covers; with `digest` given, the token signs that instead.
    """

    scheme: Scheme
    to_sign: bytes
    finish: Callable[[bytes], bytes]
    claims: tuple[Claim, ...] = ()
    fields: Fields = field(default_factory=dict)
    digest: bytes | None = None

    def digested(self) -> bytes:
        """What the token is given."""
        return self.scheme.digest(self.to_sign) if self.digest is None else self.digest


Judge = Callable[[Context, SigningKey, SignCommand], Job]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of structure: the operation that it is, its judge, the fields of a command that it takes and needs.

    `quick`: judging takes less than about a millisecond, so an event loop may do it. `batch`: many can be signed at
    once.
    """

    operation: Operation
    judge: Judge
    takes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    quick: bool = False
    batch: bool = False


def _certificate(_context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = typed.check_certificate(command.content, key)
    return Job(
        x509_scheme(key),
        order.tbs,
        lambda signature: assemble_certificate(order.tbs, signature, key.public_key),
        (SerialClaim(key.name, order.serial, hexdigest(command.content)),),
        {"role": order.role.value},
    )


def _crl(context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = typed.check_crl(command.content, key, now=context.now)
    return Job(
        x509_scheme(key),
        order.tbs,
        lambda signature: assemble_crl(order.tbs, signature, key.public_key),
        (CrlClaim(key.name, order.number, hexdigest(command.content)),),
        {"revoked": order.revoked},
    )


def _cms(context: Context, key: SigningKey, command: SignCommand) -> Job:
    assert command.content_type is not None  # KINDS says that it is needed
    order = typed.check_cms(
        command.content_type, command.content, key, content_types=context.content_types, now=context.now
    )
    return Job(
        message_scheme(key),
        order.signed_attributes,
        lambda signature: key.writer.assemble(order.content_type, order.content, order.signed_attributes, signature),
        fields={"content_type": command.content_type},
    )


def _request(_context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = typed.check_request(command.content, key)
    return Job(x509_scheme(key), order.info, lambda signature: assemble_request(order.info, signature, key.public_key))


KINDS: Final[Mapping[SignKind, Kind]] = {
    "certificate": Kind(Operation.CERTIFICATE, _certificate),
    "crl": Kind(Operation.CRL, _crl),
    "cms": Kind(
        Operation.CMS,
        _cms,
        takes=frozenset({"content_type"}),
        needs=frozenset({"content_type"}),
        quick=True,
        batch=True,
    ),
    "request": Kind(Operation.REQUEST, _request, quick=True),
}

_OPTIONAL: Final = tuple(name for name in SignCommand.__struct_fields__ if name not in {"kind", "content"})


def check_command(command: SignCommand) -> None:
    """Raises Problem 422 unless the command has the fields that its kind needs, and no others."""
    kind = KINDS[command.kind]
    for name in _OPTIONAL:
        given = getattr(command, name) is not None
        if given and name not in kind.takes:
            takers = " or ".join(each for each, other in KINDS.items() if name in other.takes)
            raise Problem(422, "invalid-request", f"the field {name} is for kind {takers} alone")
        if not given and name in kind.needs:
            raise Problem(422, "invalid-request", f"the field {name} is needed for kind {command.kind}")


class Signing:
    """Signs with the keys in custody. Safe for threads."""

    def __init__(
        self,
        custody: Custody,
        ledger: Ledger,
        recorder: Recorder,
        content_types: Mapping[str, ContentValidator],
        clock: Callable[[], datetime],
    ) -> None:
        self._custody = custody
        self._ledger = ledger
        self._recorder = recorder
        self._content_types = content_types
        self._clock = clock

    def sign(
        self, caller: str, name: str, command: SignCommand, version: int | None = None, fields: Fields | None = None
    ) -> Steps[Signed]:
        """Have the key sign the structure; `fields` are recorded with the intent.

        Raises Problem: 404, 401, 403, 409 as `access.permitted`; 422 what the judge refuses; 409 what was signed
        before; 503 the token's trouble.
        """
        operation, digest = KINDS[command.kind].operation, hexdigest(command.content)
        try:
            key, job = self._judged(caller, name, command, version)
            token, ref = key.use()
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], digest, error)
            raise
        yield Turn(token)
        try:
            self._claim(job.claims)
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], digest, error)
            raise
        recorded: Fields = {**(fields or {}), **job.fields, "keys": [key.label], "algorithm": job.scheme.name}
        intent = yield from self._recorder.intend(operation, caller, digest, recorded, job.claims)
        try:
            if key.template.purpose is Purpose.OPEN_ORDER:
                # Such a key unwraps, and signs its own request: `Token.prove_possession` says why that is all it signs.
                signature = yield Call(token, "prove_possession", (ref, job.to_sign))
            else:
                signature = yield job.scheme.call(token, ref, job.digested())
            signed = job.finish(signature)
        except Exception as error:
            yield from self._recorder.fail(intent, error, job.claims)
            raise
        index = yield from self._recorder.conclude(intent, {"output_sha256": hexdigest(signed)})
        return _signed(key, job, index, signed)

    def check(self, caller: str, name: str, command: SignCommand, version: int | None = None) -> Steps[Checked]:
        """Checks all that `sign` would check; nothing is signed or claimed. Raises as `sign`; a refusal is recorded."""
        operation, digest = KINDS[command.kind].operation, hexdigest(command.content)
        try:
            key, job = self._judged(caller, name, command, version)
            key.use()
            for claim in job.claims:
                self._ledger.check(claim)
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], digest, error)
            raise
        return Checked(key=key.row.name, version=key.row.version, algorithm=job.scheme.name)

    def sign_many(
        self, caller: str, name: str, commands: Sequence[SignCommand], version: int | None = None
    ) -> Steps[list[Signed | Problem]]:
        """Have the key sign many structures; each has its own answer or refusal, in the same order.

        Structures that were judged share intents, calls of the token and outcomes. `log_index` of each answer is the
        number of the outcome that lists its digest. Raises Problem 413 for too many, otherwise as `sign` for what
        concerns the whole: the key, the caller, the journal, the token.
        """
        if not commands:
            return []
        if len(commands) > LARGEST_BATCH:
            raise Problem(413, "batch-too-large", f"a batch has at most {LARGEST_BATCH} items")
        operation = KINDS[commands[0].kind].operation
        try:
            if len({command.kind for command in commands}) > 1 or not KINDS[commands[0].kind].batch:
                kinds = " or ".join(each for each, kind in KINDS.items() if kind.batch)
                raise Problem(422, "invalid-request", f"a batch is of one kind: {kinds}")
            key = permitted(self._custody, caller, operation, name, version)
            token, ref = key.use()
            signing = key.pair()
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], None, error)
            raise
        answers: list[Signed | Problem] = []
        jobs: list[tuple[int, Job, str]] = []
        refused: list[tuple[str, Problem]] = []
        context = self._context()
        for command in commands:
            digest = hexdigest(command.content)
            try:
                job = KINDS[command.kind].judge(context, signing, command)
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    raise
                refused.append((digest, problem))
                answers.append(problem)
            else:
                jobs.append((len(answers), job, digest))
                answers.append(_NOT_YET)
        for start in range(0, len(refused), _RECORDED_TOGETHER):
            yield Record(
                self._recorder.refusals_of(operation, caller, [name], refused[start : start + _RECORDED_TOGETHER])
            )
        if not jobs:
            return answers
        yield Turn(token)
        for start in range(0, len(jobs), _RECORDED_TOGETHER):
            part = jobs[start : start + _RECORDED_TOGETHER]
            fields: Fields = {
                "keys": [key.label],
                "algorithm": part[0][1].scheme.name,
                "count": len(part),
                "inputs_sha256": [digest for _place, _job, digest in part],
            }
            intent = yield from self._recorder.intend(operation, caller, None, fields)
            try:
                digests = [job.digested() for _place, job, _digest in part]
                signatures = yield part[0][1].scheme.call_many(token, ref, digests)
                signed = [job.finish(value) for (_place, job, _digest), value in zip(part, signatures, strict=True)]
            except Exception as error:
                yield from self._recorder.fail(intent, error)
                raise
            index = yield from self._recorder.conclude(intent, {"outputs_sha256": [hexdigest(each) for each in signed]})
            for (place, job, _digest), value in zip(part, signed, strict=True):
                answers[place] = _signed(key, job, index, value)
        return answers

    def _judged(self, caller: str, name: str, command: SignCommand, version: int | None) -> tuple[Key, Job]:
        kind = KINDS[command.kind]
        check_command(command)
        key = permitted(self._custody, caller, kind.operation, name, version)
        return key, kind.judge(self._context(), key.pair(), command)

    def _context(self) -> Context:
        return Context(self._content_types, self._ledger, self._clock())

    def _claim(self, claims: Sequence[Claim]) -> None:
        taken: list[Claim] = []
        try:
            for claim in claims:
                self._ledger.claim(claim)
                taken.append(claim)
        except BaseException:
            for claim in taken:
                self._ledger.release(claim)
            raise


_NOT_YET: Final = Problem(500, "internal", "the item was not signed")


def _signed(key: Key, job: Job, index: int, signed: bytes) -> Signed:
    return Signed(key=key.row.name, version=key.row.version, algorithm=job.scheme.name, log_index=index, signed=signed)


def hexdigest(data: bytes) -> str:
    """SHA-256 as records write it."""
    return hashlib.sha256(data).hexdigest()
