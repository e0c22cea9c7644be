"""The tables of a document, each made from the pack or its annex alone, so that none can disagree with the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cps.annex import Annex
from cps.check_model import EvidenceCheck
from cps.document_blocks import Code, Link, Row, Span, Table, Text
from cps.document_values import Value, duration, spoken
from cps.document_words import Vocabulary
from cps.model import ClassRule, KeyRule, Pack, RevocationRule, Step
from cps.rfc3647 import heading_of
from cps.statement_text import TableName

Cell = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """Makes the tables of one pack in one language. A missing word raises PackError."""

    pack: Pack
    annex: Annex
    words: Vocabulary

    def make(self, name: TableName) -> Table:
        columns, rows = _MAKERS[name](self)
        return Table(
            self.words.say("titles", name), tuple(self.words.say("columns", each) for each in columns), tuple(rows)
        )

    # what stands in a cell

    def term(self, group: str, name: str) -> Cell:
        """Words with the identifier that code and refusals use."""
        return (Text(self.words.say(group, name)), Text(" "), Code(name))

    def note(self, name: str) -> Cell:
        return (Text(self.words.say("notes", name)),)

    def value(self, value: Value) -> Cell:
        return self.note("nothing") if value in (None, ()) else spoken(value, self.words.language)

    def listed(self, cells: Sequence[Cell], between: str | None = None) -> Cell:
        joint = {"en": ", ", "fa": "، "}[self.words.language] if between is None else between
        found: list[Span] = []
        for cell in cells:
            found += [Text(joint)] if found else []
            found += cell
        return tuple(found) or self.note("nothing")

    def said(self, group: str, names: Iterable[str]) -> Cell:
        return self.listed([(Text(self.words.say(group, name)),) for name in names])

    def any_of(self, names: Iterable[str]) -> Cell:
        return self.listed([(Code(name),) for name in names], self.words.say("notes", "or"))

    def yes_no(self, fact: bool) -> Cell:
        return self.note("yes" if fact else "no")

    def at_most(self, value: timedelta | None) -> Cell:
        return self.note("nothing") if value is None else (Text(duration(value, self.words.language)),)


def _section(section: str) -> Cell:
    return (Link(f"s{heading_of(section)}", section),)


_Made = tuple[tuple[str, ...], list[Row]]


def _classes(made: Tables) -> _Made:
    rows = [
        Row(
            (
                made.term("classes", name),
                _section(rule.section),
                _issuers(made, rule),
                made.said("purposes", rule.csrs.required),
                made.said("purposes", rule.csrs.optional),
                made.yes_no(rule.key.attested_in_token),
            ),
            f"class-{name}",
        )
        for name, rule in made.pack.classes.items()
    ]
    return ("class", "section", "issuer", "required", "optional", "attested"), rows


def _issuers(made: Tables, rule: ClassRule) -> Cell:
    """Who issues for which purpose; the name alone where one issues for all."""
    names = set(rule.issuer.values())
    if len(names) == 1:
        return (Code(*names),)
    cells: list[Cell] = []
    for name in sorted(names):
        purposes = [each for each in rule.csrs.all if rule.issuer[each] == name]
        cells.append((Code(name), Text(" ("), *made.said("purposes", purposes), Text(")")))
    return made.listed(cells, made.words.say("notes", "also"))


def _rejections(made: Tables) -> _Made:
    rows = [
        Row(
            (
                (Code(code),),
                made.said("classes", each.classes),
                (Text(each.text.fa if made.words.language == "fa" else each.text.en),),
            ),
            f"rejection-{code}",
        )
        for code, each in made.pack.rejections.items()
    ]
    return ("code", "classes", "text"), rows


def _subjects(made: Tables) -> _Made:
    rows = [
        Row(
            (
                made.term("classes", name),
                (Text(made.words.say("subjects", rule.subject.cn)),),
                made.said("subjects", rule.subject.forbid),
            )
        )
        for name, rule in made.pack.classes.items()
    ]
    return ("class", "cn", "forbid"), rows


def _risk(made: Tables) -> _Made:
    rows = [Row((made.term("signals", name), made.value(weight))) for name, weight in made.pack.risk.signals.items()]
    return ("signal", "weight"), rows


def _with_rekeys(made: Tables) -> Iterator[tuple[Cell, ClassRule]]:
    """The classes by their names, each followed by what it says of re-keys, if it does."""
    for name, rule in made.pack.classes.items():
        yield made.term("classes", name), rule
        if rule.rekey is not None:
            yield (*made.term("classes", name), *made.note("rekey")), rule.for_rekey


def _evidence(made: Tables) -> _Made:
    rows = [
        Row(
            (
                member,
                made.term("evidence", each.kind),
                (Text(made.words.say("forms", each.form)),),
                made.at_most(each.max_age),
            )
        )
        for member, rule in _with_rekeys(made)
        for each in rule.evidence
    ]
    return ("class", "evidence", "form", "age"), rows


def _checks(made: Tables) -> _Made:
    rows = [
        Row(
            (
                made.term("checks", kind),
                made.listed([(Text(made.words.say("classes", name)),) for name in check.classes]),
                (Text(made.words.say("ways", check.way)),),
                made.term("evidence", check.evidence),
                made.note("nothing") if isinstance(check, EvidenceCheck) else made.at_most(check.patience),
                made.note("nothing") if isinstance(check, EvidenceCheck) else made.note(check.silence),
            ),
            f"check-{kind}",
        )
        for kind, check in made.pack.checks.items()
    ]
    return ("check", "classes", "way", "evidence", "patience", "silence"), rows


def _contradictions(made: Tables) -> _Made:
    rows = [
        Row((made.term("checks", kind), made.term("check_reasons", reason), made.note(consequence)))
        for kind, check in made.pack.checks.items()
        if not isinstance(check, EvidenceCheck)
        for reason, consequence in check.contradiction.items()
    ]
    return ("check", "reason", "consequence"), rows


def _steps(made: Tables) -> _Made:
    rows = [
        Row(
            (
                member,
                (Code(step.name),),
                made.any_of(step.by),
                made.value(step.count),
                made.listed([(Code(each),) for each in step.excluded]),
                made.note("always") if step.when is None else made.value(step.when),
                made.at_most(step.expires),
            )
        )
        for member, rule in _with_rekeys(made)
        for step in rule.steps
    ]
    return ("class", "step", "by", "persons", "excluded", "when", "expires"), rows


def _service_levels(made: Tables) -> _Made:
    rows = [
        Row((made.term("classes", name), made.at_most(rule.sla.decide), made.at_most(rule.sla.request_expires)))
        for name, rule in made.pack.classes.items()
    ]
    return ("class", "decide", "request_expires"), rows


def _roles(made: Tables) -> _Made:
    rows = [Row(((Code(role),), (Text(made.words.say("roles", role)),)), f"role-{role}") for role in made.pack.roles]
    return ("role", "meaning"), rows


def _exclusive(made: Tables) -> _Made:
    order = made.pack.roles.index
    rows = [Row((made.listed([(Code(role),) for role in sorted(group, key=order)]),)) for group in made.pack.exclusive]
    return ("roles",), rows


def _signers(made: Tables) -> _Made:
    names = type(made.pack.signers).model_fields
    rows = [Row((made.term("signers", name), (Code(getattr(made.pack.signers, name)),))) for name in names]
    return ("service", "identity"), rows


def _operations(made: Tables) -> _Made:
    rows = [
        Row((made.term("operations", name), made.any_of(each.by), made.value(each.approvals)))
        for name, each in made.annex.operations.items()
    ]
    return ("operation", "by", "persons"), rows


def _keys(made: Tables) -> _Made:
    rows = [
        Row(((Code(name),), _kinds(made, rule), made.said("weaknesses", rule.reject)))
        for name, rule in made.pack.key_rules.items()
    ]
    return ("key_rule", "kinds", "weaknesses"), rows


def _kinds(made: Tables, rule: KeyRule) -> Cell:
    kinds: list[Cell] = []
    for each in rule.any_of:
        if each.rsa is None:
            kinds.append(made.any_of(each.ec))
        else:
            exponents = (*made.note("exponent"), Text(" "), *made.value(each.rsa.e))
            kinds.append((*_rsa(made, each.rsa.min), Text(" ("), *exponents, Text(")")))
    return made.listed(kinds, made.words.say("notes", "or"))


def _rsa(made: Tables, bits: int) -> Cell:
    least, unit = made.words.say("notes", "least"), made.words.say("notes", "bits")
    return (Text("RSA "), Text(f"{least} "), *made.value(bits), Text(f" {unit}"))


def _validity(made: Tables) -> _Made:
    rows = [
        Row(
            (
                made.term("classes", name),
                made.at_most(rule.validity.max),
                made.note(rule.validity.not_beyond or "nothing"),
            )
        )
        for name, rule in made.pack.classes.items()
    ]
    return ("class", "longest", "not_beyond"), rows


def _revocation(made: Tables) -> _Made:
    rows = [
        Row(
            (
                (Code(reason),),
                made.note(rule.of),
                _orderers(made, rule),
                made.at_most(rule.deadline),
                made.yes_no(rule.denylist_key),
            ),
            f"reason-{reason}",
        )
        for reason, rule in made.pack.revocation.items()
    ]
    return ("reason", "of", "order", "deadline", "denied"), rows


def _orderers(made: Tables, rule: RevocationRule) -> Cell:
    step = rule.steps[0]
    able = [_persons(made, step)]
    able += [made.note("holder")] if rule.by_holder else []
    able += [made.note("issuer_bank")] if rule.by_issuer_bank else []
    able += [made.note("not_accepted")] if rule.by_system else []
    return made.listed(able, made.words.say("notes", "also"))


def _persons(made: Tables, step: Step) -> Cell:
    return (*made.value(step.count), Text(" × "), *made.any_of(step.by))


def _denylist(made: Tables) -> _Made:
    rows = [
        Row(((Code(step.name),), made.any_of(step.by), made.value(step.count))) for step in made.pack.denylist.steps
    ]
    return ("step", "by", "persons"), rows


def _clocks(made: Tables) -> _Made:
    names = type(made.pack.clocks).model_fields
    rows = [Row((made.term("clocks", name), made.value(getattr(made.pack.clocks, name)))) for name in names]
    return ("clock", "value"), rows


def _profiles(made: Tables) -> _Made:
    rows: list[Row] = []
    for name, each in made.annex.profiles.items():
        kinds = [_rsa(made, each.rsa)] if each.rsa is not None else []
        kinds += [made.any_of(each.curves)] if each.curves else []
        cells = (
            (Code(name),),
            (Text(made.words.say("profiles", name)),),
            (Code(each.issuer),),
            made.at_most(each.validity),
            made.listed(kinds, made.words.say("notes", "or")),
        )
        rows.append(Row(cells, f"profile-{name}"))
    return ("profile", "purpose", "issuer", "longest", "keys"), rows


def _extensions(made: Tables) -> _Made:
    rows = [
        Row(
            (
                (Link(f"profile-{name}", name),),
                made.value(each.key_usage),
                made.value(each.extended_key_usage),
                made.value(each.policies),
                made.value(each.extensions),
            )
        )
        for name, each in made.annex.profiles.items()
    ]
    return ("profile", "key_usage", "extended", "policies", "extensions"), rows


def _authorities(made: Tables) -> _Made:
    rows: list[Row] = []
    for name, each in made.annex.profiles.items():
        if each.lists is not None:
            before = (*made.at_most(each.lists.renew_before), Text(" "), *_column(made, "before_end"))
            cells = (
                (Link(f"profile-{name}", name),),
                made.value(each.path_length),
                made.at_most(each.lists.lifetime),
                before,
                made.value(each.lists.partitions),
            )
            rows.append(Row(cells))
    return ("profile", "path_length", "lifetime", "renew", "partitions"), rows


def _column(made: Tables, name: str) -> Cell:
    return (Text(made.words.say("columns", name)),)


def _policies(made: Tables) -> _Made:
    return ("policy", "oid"), [Row(((Code(name),), (Code(oid),))) for name, oid in made.annex.policies.items()]


_MAKERS: Final[dict[TableName, Callable[[Tables], Any]]] = {
    "classes": _classes,
    "subjects": _subjects,
    "risk": _risk,
    "evidence": _evidence,
    "checks": _checks,
    "contradictions": _contradictions,
    "steps": _steps,
    "rejections": _rejections,
    "service_levels": _service_levels,
    "roles": _roles,
    "exclusive": _exclusive,
    "signers": _signers,
    "operations": _operations,
    "keys": _keys,
    "validity": _validity,
    "revocation": _revocation,
    "denylist": _denylist,
    "clocks": _clocks,
    "profiles": _profiles,
    "extensions": _extensions,
    "authorities": _authorities,
    "policies": _policies,
}
"""A maker for every name that a text may ask for."""
