"""Sign certificate status ahead: for every unexpired certificate, in batches, before the last answer ends.

Run on a clock by the process of the certificate authority. What it has not come to yet is signed when somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from ca.errors import SigningRefusedError, TokenUnavailableError
from ca.hierarchy import Authority, Hierarchy
from ca.ocsp_answer import ResponderKey, Times, responder_key, responder_name, response_data, single_response, times
from ca.ocsp_policy import OcspPolicy
from ca.ocsp_store import OcspRecord, OcspStore
from hsm_service.service import KeyInfo, SignKind
from hsm_service.wire import BatchAnswer, BatchItem
from pki.der import encode
from pki.ocsp_structures import cert_id, wrap_response
from runtime.logging import get_logger
from runtime.problems import Problem

_TOGETHER: Final = 250
_SHORTER: Final = timedelta(seconds=1)
_log: Final = get_logger("ca.ocsp")


class BatchSigner(Protocol):
    """What is needed of the token boundary: `hsm_service.client.HsmClient`."""

    def describe_key(self, name: str) -> KeyInfo: ...

    def batch_sign(
        self, name: str, kind: SignKind, items: Sequence[BatchItem], *, version: int | None = None
    ) -> BatchAnswer: ...


class Presigner:
    """Answers ahead for all authorities that have a responder."""

    def __init__(self, store: OcspStore, hierarchy: Hierarchy, signer: BatchSigner, policy: OcspPolicy) -> None:
        self._store = store
        self._hierarchy = hierarchy
        self._signer = signer
        self._policy = policy

    def presign_due(self, now: datetime) -> int:
        """Sign all answers that are due at `now` (aware UTC); returns how many, and never raises for the token.

        An authority whose responder cannot sign now keeps no other from its answers.
        """
        signed = 0
        self._store.forget_ended(now)
        for authority in self._hierarchy.authorities.values():
            if authority.is_root:
                continue
            try:
                signed += self._presign(authority, now)
            except (TokenUnavailableError, SigningRefusedError) as error:
                _log.error("status-not-signed-ahead", issuer=authority.name, reason=error.reason, detail=str(error))
        return signed

    def _presign(self, authority: Authority, now: datetime) -> int:
        key = self._responder(authority)
        if key is None:
            return 0
        when = times(now, self._policy.presigned.lifetime, self._policy, key)
        # Near the end of the responder's certificate an answer is as long as it can be, and not due again at once.
        before = min(now + self._policy.presigned.renew_before, when.next_update - _SHORTER)
        signed, after = 0, ""
        while serials := self._store.due(authority.name, now, before=before, limit=_TOGETHER, after=after):
            self._sign(authority, key, serials, when, now)
            signed, after = signed + len(serials), serials[-1]
        return signed

    def _responder(self, authority: Authority) -> ResponderKey | None:
        try:
            return responder_key(self._signer.describe_key(responder_name(authority.name)))
        except Problem as problem:
            if problem.status == 404:
                return None  # founded without one
            raise _as_error(problem) from problem

    def _sign(
        self, authority: Authority, key: ResponderKey, serials: Sequence[str], when: Times, now: datetime
    ) -> None:
        standing = self._store.standing(authority.name, serials, now)
        cutoff = authority.certificate.not_valid_before_utc
        items = []
        for serial in serials:
            named = encode(cert_id(int(serial, 16), authority.certificate))
            single = single_response(named, standing.statuses[serial], when, cutoff)
            items.append(BatchItem(response_data(key, now, [single])))
        try:
            answers = self._signer.batch_sign(key.name, "ocsp", items).items
        except Problem as problem:
            raise _as_error(problem) from problem
        records = []
        for serial, answer in zip(serials, answers, strict=True):
            if answer.signed is None:
                raise SigningRefusedError(
                    f"the HSM service will not sign the status of {serial}: {(answer.problem or {}).get('type')}",
                    clause="RFC 6960 4.2.1",
                )
            der = wrap_response(answer.signed)
            records.append(OcspRecord(authority.name, serial, standing.epoch, when.this_update, when.next_update, der))
        self._store.keep(records)


def _as_error(problem: Problem) -> TokenUnavailableError | SigningRefusedError:
    if problem.status >= 500 or problem.status == 429:
        return TokenUnavailableError(f"the HSM service cannot sign now: {problem}")
    return SigningRefusedError(f"the HSM service will not sign this: {problem}", clause=problem.clause)
