"""Our own judge of a bundle: files in, judgement out. No network, no installation, no clock, nothing run.

`judge` says who is bound to what; `decide` (storefront.evidence.claims) answers one question of a dispute from that.
`verify.sh` judges the same statements with OpenSSL alone (storefront.evidence.second_opinion); the two must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.der import sha256
from runtime.language import Language, Message, text_of
from storefront.errors import BundleRefused
from storefront.evidence.claims import Case, Decision
from storefront.evidence.dossier import Dossier
from storefront.evidence.standing import Standings, judge_standing
from storefront.evidence.statements import About, State, Statement, Statements, judge_statements

_OWN_ROOT: Final = "the root is the bundle's own: compare its SHA-256 {digest} with the published one"
_ENDS: Final = (About.GOODS, About.ANSWER, About.RECEIPT)


class Conclusion(StrEnum):
    """What a bundle comes to as a whole; verify.sh's exit codes 0, 3 and 1."""

    HOLDS = "holds"
    INCOMPLETE = "incomplete"
    """What is there holds; the purchase is not there from end to end."""
    BROKEN = "does not hold"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judged bundle. `case` is what claims are decided from."""

    case: Case
    standings: Standings
    conclusion: Conclusion
    pinned: bool
    gaps: tuple[Message, ...]

    @property
    def statements(self) -> Statements:
        return self.case.statements

    def document(self) -> dict[str, Any]:
        """For programs: plain values, each text in both languages."""
        dossier = self.case.dossier
        return {
            "conclusion": self.conclusion.value,
            "xid": dossier.xid.hex(),
            "at": dossier.when.isoformat(),
            "root": {"sha256": _fingerprint(dossier.root), "pinned": self.pinned},
            "statements": [_statement(each) for each in self.statements.values()],
            "gaps": [both(each) for each in self.gaps],
        }


def judge(
    files: Mapping[str, bytes], *, root: x509.Certificate | None = None, other: Judgement | None = None
) -> Judgement:
    """Judge the files of a bundle (names as in `storefront.evidence.folder`).

    :param root: the root that the reader trusts; without one the bundle's own is taken, and that is a gap.
    :param other: a judged bundle that is held against this one.
    :raises BundleRefused: the files are no bundle, or not of that root.
    """
    dossier = Dossier.of(files)
    if root is not None and root != dossier.root:
        raise BundleRefused(Message("the bundle rests on another root than the one given"))
    standings = judge_standing(dossier)
    statements = judge_statements(dossier, standings)
    faulty = any(each.state is State.BROKEN for each in statements.values()) or any(
        each.faults for each in standings.signers.values()
    )
    if faulty or standings.authorities:
        conclusion = Conclusion.BROKEN
    elif any(statements[about].state is State.ABSENT for about in _ENDS):
        conclusion = Conclusion.INCOMPLETE
    else:
        conclusion = Conclusion.HOLDS
    gaps = [Message("the bundle has no {statement}", statement=name_of(about)) for about in _absent(statements)]
    if root is None:
        digest = _fingerprint(dossier.root)
        gaps.insert(0, Message(_OWN_ROOT, digest=digest))
    case = Case(dossier, statements, None if other is None else other.case)
    return Judgement(case, standings, conclusion, root is not None, (*gaps, *standings.gaps))


def _absent(statements: Statements) -> list[About]:
    return [each.about for each in statements.values() if each.state is State.ABSENT and each.about is not About.TIME]


_NAMES: Final[Mapping[About, Message]] = {
    About.TIME: Message("time-stamp"),
    About.OFFER: Message("invoice"),
    About.GOODS: Message("order's lines: the goods are known by their hash alone"),
    About.ORDER: Message("order of the buyer"),
    About.PAYMENT: Message("payment"),
    About.CONTRACT: Message("order with two signatures: buyer and merchant are bound by one signature each"),
    About.REQUEST: Message("request of the merchant to the gateway: it does not pass through the buyer's hands"),
    About.ANSWER: Message("answer of the gateway"),
    About.ACKNOWLEDGEMENT: Message("acknowledgement by the merchant: it does not pass through the buyer's hands"),
    About.RECEIPT: Message("receipt"),
    About.MONEY: Message("movement of money after the answer: none was asked for, or only the merchant has it"),
    About.STATUS: Message("later word of the gateway: none is needed where its answer left nothing open"),
}


def name_of(about: About) -> Message:
    """What proves a statement, in words."""
    return _NAMES[about]


def _fingerprint(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_bytes(Encoding.DER)).hex()


def both(said: object) -> dict[str, str]:
    """A text in both languages."""
    return {language.value: text_of(said, language) for language in Language}


def decision_document(decision: Decision) -> dict[str, Any]:
    """A decision for programs."""
    return {
        "claim": decision.claim.value,
        "verdict": decision.verdict.value,
        "reasons": [both(each) for each in decision.reasons],
        "rests_on": list(decision.rests_on),
    }


def _statement(statement: Statement) -> dict[str, Any]:
    party = statement.party
    return {
        "statement": statement.about.value,
        "state": statement.state.value,
        "party": None
        if party is None
        else {
            "role": party.role,
            "id": party.id,
            "name": party.name,
            "certificate": {"serial": party.serial, "sha256": party.sha256},
        },
        "what": both(statement.what),
        "proven_by": list(statement.proven_by),
        "since": None if statement.since is None else statement.since.isoformat(),
        "status": [both(each) for each in statement.status],
        "faults": [both(each) for each in (*statement.faults, *statement.mismatches)],
    }
