"""Signing, for every kind of structure: one path, one table.

    judge      the key exists, serves, lets this caller do this, and the structure is one it may sign; a refusal is
               recorded
    turn       the token can take one thing more; what was taken out of use meanwhile signs nothing
    claim      what must not be signed twice is claimed (hsm_service.ledger)
    intend     the intent is on the disk before the token is called
    call       the token signs
    conclude   the outcome is on the disk before the answer leaves

What kinds there are, and what each takes beside its content, stands in `hsm_service.kinds`. Everything here is steps
(`hsm_service.steps`): it computes and waits for nothing itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from time import perf_counter
from typing import Final, NamedTuple, NoReturn

import msgspec

from hsm_service.access import permitted
from hsm_service.crl_reader import CrlReader
from hsm_service.custody import Custody, Key
from hsm_service.judging import SigningKey
from hsm_service.key_states import KeyState
from hsm_service.key_versions import Standing
from hsm_service.keys import KeyRef
from hsm_service.kinds import KINDS, Context, Fields, Job, check_command, crl_job, hexdigest
from hsm_service.ledger import Claim, Ledger
from hsm_service.limits import Meter
from hsm_service.operation_docket import FREE
from hsm_service.operations import Operations
from hsm_service.purposes import Purpose
from hsm_service.record import Recorder, problem_of
from hsm_service.schemes import Scheme
from hsm_service.service import Checked, SignCommand, Signed, SignedCrl
from hsm_service.steps import Call, Pause, Record, Steps, Turn
from hsm_service.templates import Operation
from hsm_service.token_operations import TokenOperations
from hsm_service.typed_approval import Believed
from hsm_service.typed_cms import ContentValidator
from hsm_service.wire import LARGEST_BATCH
from runtime.problems import Problem

_RECORDED_TOGETHER: Final = 250
"""Structures of a batch that share an intent and an outcome: so many digests fit into an entry of the journal."""
_SLICE: Final = 0.002
"""Seconds for which the items of a batch are judged before others may have the processor."""


class _Item(NamedTuple):
    """A structure of a batch that was judged: its place among the answers, its job, the digest of what came (hex)."""

    place: int
    job: Job
    input_sha256: str


class Signing:
    """Signs with the keys in custody. Safe for threads."""

    def __init__(
        self,
        custody: Custody,
        ledger: Ledger,
        recorder: Recorder,
        content_types: Mapping[str, ContentValidator],
        believed: Callable[[], Believed],
        operations: Operations,
        meter: Meter,
        clock: Callable[[], datetime],
    ) -> None:
        self._custody = custody
        self._ledger = ledger
        self._recorder = recorder
        self._content_types = content_types
        self._believed = believed
        self._operations = operations
        self._meter = meter
        self._clock = clock

    def sign(
        self, caller: str, name: str, command: SignCommand, version: int | None = None, fields: Fields | None = None
    ) -> Steps[Signed]:
        """Have the key sign the structure; `fields` are recorded with the intent.

        Raises Problem: 404, 401, 403, 409 as `access.permitted`; 422 what the judge refuses; 409 what was signed
        before; 503 the token's trouble. ApprovalNeeded for a key whose every use officers approve.
        """
        operation, digest = KINDS[command.kind].operation, hexdigest(command.content)
        try:
            key, job = self._judged(caller, name, command, version)
            token, ref = key.use()
            granted = self._operations.use(caller, key.template.name, operation, key.label, digest)
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], digest, error)
            raise
        if granted is FREE:
            return (yield from self._have_signed(caller, key, token, ref, job, operation, digest, fields or {}))
        try:
            more = {**(fields or {}), **granted.fields}
            signed = yield from self._have_signed(caller, key, token, ref, job, operation, digest, more)
        except Exception as error:
            self._operations.concluded(granted, error)
            raise
        self._operations.concluded(granted)
        return signed

    def _have_signed(
        self,
        caller: str,
        key: Key,
        token: TokenOperations,
        ref: KeyRef,
        job: Job,
        operation: Operation,
        digest: str,
        fields: Fields,
    ) -> Steps[Signed]:
        """What was judged and granted: claimed, recorded, signed, recorded."""
        name = key.row.name
        yield Turn(token)
        try:
            self._require_serving(key)
            self._meter.admit_key(key, self._clock())
            self._claim(job.claims)
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], digest, error)
            raise
        recorded: Fields = {**fields, **job.fields, "keys": [key.label], "algorithm": job.scheme.name}
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

    # -- a revocation list that comes in pieces ------------------------------------------------------------------------

    def read_crl(self, caller: str, name: str, version: int | None = None) -> Steps[CrlReader]:
        """What reads and judges a TBSCertList for the key (`hsm_service.crl_reader`); raises as `sign`.

        What it refuses is recorded by `refuse_crl`.
        """
        try:
            key = permitted(self._custody, caller, Operation.CRL, name, version)
            key.check_window(Operation.CRL, self._clock())
            ledger = self._ledger
            return CrlReader(
                key.pair(),
                now=self._clock(),
                last=ledger.last_crl_number(name),
                is_full=lambda number: ledger.is_full_crl(name, number),
            )
        except Exception as error:
            yield from self._recorder.refuse(Operation.CRL, caller, [name], None, error)
            raise

    def refuse_crl(self, caller: str, name: str, error: Exception) -> Steps[NoReturn]:
        """Records that a list was refused while it was read, and raises `error`."""
        yield from self._recorder.refuse(Operation.CRL, caller, [name], None, error)
        raise error

    def sign_crl(self, caller: str, name: str, reader: CrlReader, version: int | None = None) -> Steps[SignedCrl]:
        """Have the key sign the list that `reader` took in; raises as `sign`.

        The key is looked at again: it may have been taken out of use while the list came.
        """
        digest: str | None = None
        try:
            read = reader.finish()
            digest = read.input_sha256
            key = permitted(self._custody, caller, Operation.CRL, name, version)
            if key.pair() != reader.key:
                raise Problem(409, "key-rotated", f"key {name} has another version in use now: send the list again")
            token, ref = key.use()
            granted = self._operations.use(caller, key.template.name, Operation.CRL, key.label, digest)
        except Exception as error:
            yield from self._recorder.refuse(Operation.CRL, caller, [name], digest, error)
            raise
        job = crl_job(reader, read)
        try:
            signed = yield from self._have_signed(caller, key, token, ref, job, Operation.CRL, digest, granted.fields)
        except Exception as error:
            self._operations.concluded(granted, error)
            raise
        self._operations.concluded(granted)
        return SignedCrl(
            key=signed.key,
            version=signed.version,
            algorithm=signed.algorithm,
            log_index=signed.log_index,
            signature=signed.signed,
        )

    def check(self, caller: str, name: str, command: SignCommand, version: int | None = None) -> Steps[Checked]:
        """Checks all that `sign` would check; nothing is signed or claimed. Raises as `sign`; a refusal is recorded."""
        operation, digest = KINDS[command.kind].operation, hexdigest(command.content)
        try:
            key, job = self._judged(caller, name, command, version)
            key.use()
            self._meter.check_key(key)
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
            if self._operations.controls_use(key.template.name, operation):
                raise Problem(409, "approved-singly", f"each use of key {name} is approved by itself, never in a batch")
            token, ref = key.use()
            key.check_window(operation, self._clock())
            signing = key.pair()
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], None, error)
            raise
        answers: list[Signed | Problem] = []
        # What shares an intent is signed alike, and of one content type.
        jobs: defaultdict[tuple[Scheme, bytes], list[_Item]] = defaultdict(list)
        refused: list[tuple[str, Problem]] = []
        # What is believed is found out once for all of them; which CRL is the newest is asked for each.
        context, resumed = replace(self._context(caller), believed=cache(self._believed)), perf_counter()
        for command in commands:
            if perf_counter() - resumed > _SLICE:
                yield Pause()
                resumed = perf_counter()
            digest = hexdigest(command.content)
            try:
                check_command(command)
                job = KINDS[command.kind].judge(context, signing, command)
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    yield from self._recorder.refuse(operation, caller, [name], digest, error)
                    raise
                refused.append((digest, problem))
                answers.append(problem)
            else:
                jobs[job.scheme, _alike(job.fields)].append(_Item(len(answers), job, digest))
                answers.append(_NOT_YET)
        for start in range(0, len(refused), _RECORDED_TOGETHER):
            yield Record(
                self._recorder.refusals_of(operation, caller, [name], refused[start : start + _RECORDED_TOGETHER])
            )
        if not jobs:
            return answers
        yield Turn(token)
        try:
            self._meter.admit_key(key, self._clock(), sum(map(len, jobs.values())))
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [name], None, error)
            raise
        for (scheme, _fields), items in jobs.items():
            for start in range(0, len(items), _RECORDED_TOGETHER):
                part = items[start : start + _RECORDED_TOGETHER]
                yield from self._sign_together(caller, operation, key, token, ref, scheme, part, answers)
        return answers

    def _sign_together(
        self,
        caller: str,
        operation: Operation,
        key: Key,
        token: TokenOperations,
        ref: KeyRef,
        scheme: Scheme,
        part: Sequence[_Item],
        answers: list[Signed | Problem],
    ) -> Steps[None]:
        """A part of a batch, claimed each by itself, then recorded and signed together; fills in the answers."""
        try:
            self._require_serving(key)
        except Exception as error:
            yield from self._recorder.refuse(operation, caller, [key.row.name], None, error)
            raise
        items: list[_Item] = []
        refused: list[tuple[str, Problem]] = []
        for item in part:
            try:
                self._claim(item.job.claims)
            except Problem as problem:
                refused.append((item.input_sha256, problem))
                answers[item.place] = problem
            else:
                items.append(item)
        if refused:
            try:
                yield Record(self._recorder.refusals_of(operation, caller, [key.row.name], refused))
            except Exception:
                self._recorder.give_back(claim for item in items for claim in item.job.claims)
                raise
        if not items:
            return
        fields: Fields = {
            **items[0].job.fields,
            "keys": [key.label],
            "algorithm": scheme.name,
            "count": len(items),
            "inputs_sha256": [item.input_sha256 for item in items],
        }
        claims = [item.job.claims for item in items]
        intent = yield from self._recorder.intend_together(operation, caller, fields, claims)
        try:
            signatures = yield scheme.call_many(token, ref, [item.job.digested() for item in items])
            signed = [item.job.finish(value) for item, value in zip(items, signatures, strict=True)]
        except Exception as error:
            yield from self._recorder.fail(intent, error, [claim for each in claims for claim in each])
            raise
        index = yield from self._recorder.conclude(intent, {"outputs_sha256": [hexdigest(each) for each in signed]})
        for item, value in zip(items, signed, strict=True):
            answers[item.place] = _signed(key, item.job, index, value)

    def _judged(self, caller: str, name: str, command: SignCommand, version: int | None) -> tuple[Key, Job]:
        kind = KINDS[command.kind]
        check_command(command)
        key = permitted(self._custody, caller, kind.operation, name, version)
        key.check_window(kind.operation, self._clock())
        return key, kind.judge(self._context(caller), key.pair(), command)

    def _require_serving(self, key: Key) -> None:
        """A Problem if the version was taken out of use since it was judged, while its operation waited for its turn.

        Whoever disables a key is told that it is disabled: from then on no intent is written for it.
        """
        self._custody.find(key.row.name, key.row.version).use()

    def _held(self, public_key: bytes) -> SigningKey | None:
        """The key pair with this public key (DER) whose version is in use here."""
        for key in self._custody.all():
            if key.row.public_key == public_key and key.standing is Standing.IN_USE:
                return key.signing if key.row.state is KeyState.ENABLED else None
        return None

    def _context(self, caller: str) -> Context:
        return Context(caller, self._believed, self._held, self._content_types, self._ledger, self._clock())

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


def _alike(fields: Fields) -> bytes:
    """The same for fields that can stand in one entry of the journal for several structures."""
    return msgspec.json.encode(fields)


_NOT_YET: Final = Problem(500, "internal", "the item was not signed")


def _signed(key: Key, job: Job, index: int, signed: bytes) -> Signed:
    return Signed(key=key.row.name, version=key.row.version, algorithm=job.scheme.name, log_index=index, signed=signed)
