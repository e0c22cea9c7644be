"""The statement as a document: pack and texts, with the profiles and policies of this release as its annex."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ca.crl_store import KEPT
from ca.ocsp_policy import ocsp_policy
from ca.profile import POLICIES, profiles
from ca.self_audit_report import LEAST, SHARE
from cps.annex import Annex, ApprovalFacts, Figures, ListFacts, ProfileFacts, RuleFacts, StatusFacts
from cps.document import Edition
from cps.errors import PackError
from cps.model import load_pack
from cps.packs import CURRENT, published, published_texts
from cps.statement_text import StatementText, load_texts
from hsm_service.dual_control_policy import built_in_policy
from hsm_service.typed_timestamp import MAX_DRIFT


def edition(pack: str = CURRENT, texts: Path | None = None) -> Edition:
    """The edition of a pack: a published one by its name, or a YAML file.

    The texts are those in the folder `texts`, else those beside the file (`NAME.texts/`), else the published ones.
    Raises PackError, or OSError if a file cannot be read.
    """
    file = Path(pack)
    if file.suffix not in {".yaml", ".yml"}:
        if pack != CURRENT:
            raise PackError(f"there is no published pack {pack!r}; there is {CURRENT}, and any YAML file")
        return Edition(published(), published_texts() if texts is None else _texts_in(texts), annex())
    beside = file.with_suffix(".texts")
    folder = texts or (beside if beside.is_dir() else None)
    return Edition(load_pack(file.read_bytes()), published_texts() if folder is None else _texts_in(folder), annex())


def _texts_in(folder: Path) -> StatementText:
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise PackError(f"there are no texts (*.yaml) in {folder}")
    return load_texts({each.stem: each.read_bytes() for each in found})


@cache
def annex() -> Annex:
    """What a document of this release quotes beside its pack."""
    status, control = ocsp_policy(), built_in_policy()
    operations = {str(name): ApprovalFacts(each.by, each.approvals) for name, each in control.operations.items()}
    for template, uses in control.use.items():
        operations |= {f"{use} by {template}": ApprovalFacts(each.by, each.approvals) for use, each in uses.items()}
    return Annex(
        profiles={name: _profile(name) for name in profiles()},
        policies={name: oid.dotted_string for name, oid in POLICIES.items()},
        status=StatusFacts(status.presigned.lifetime, status.presigned.renew_before, status.live.lifetime),
        operations=operations,
        approval_rules={str(name): RuleFacts(rule.section, rule.text) for name, rule in control.rules.items()},
        figures=Figures(SHARE, LEAST, KEPT, MAX_DRIFT, control.lasts.request, control.lasts.approval),
    )


def _profile(name: str) -> ProfileFacts:
    each = profiles()[name]
    lists = None if each.ca is None else each.ca.crl
    return ProfileFacts(
        name=name,
        section=each.section,
        issuer=each.issuer,
        validity=each.validity.max,
        rsa=each.key.rsa,
        curves=tuple(sorted(each.key.curves)),
        key_usage=tuple(sorted(each.key_usage)),
        extended_key_usage=each.extended_key_usage,
        policies=each.policies,
        extensions=tuple(sorted(each.extensions.required | each.extensions.optional)),
        path_length=None if each.ca is None else each.ca.path_length,
        lists=None if lists is None else ListFacts(lists.lifetime, lists.renew_before, lists.partitions),
    )
