"""The statement as a document: pack and texts, with the profiles and policies of this release as its annex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from ca.crl_kinds import KEPT
from ca.ocsp_policy import ocsp_policy
from ca.profile import POLICIES, profiles
from ca.self_audit_report import LEAST, SHARE
from cli.packs import statements
from cli.state import installation
from cps.annex import Annex, ApprovalFacts, Figures, ListFacts, ProfileFacts, RuleFacts, StatusFacts
from cps.document import Edition
from cps.errors import PackError
from cps.model import load_pack
from cps.packs import CURRENT, published_file, published_text_files
from cps.statement_text import load_texts
from hsm_service.dual_control_policy import built_in_policy
from hsm_service.typed_timestamp import MAX_DRIFT
from statements.files import PublicationFiles, read_texts
from statements.published import name_of


@dataclass(frozen=True, slots=True)
class Source:
    """A pack and its texts as they are written: the bytes of the files."""

    pack: bytes
    texts: Mapping[str, bytes]

    def edition(self) -> Edition:
        """What a document is made of. Raises PackError."""
        return Edition(load_pack(self.pack), load_texts(self.texts), annex())


def edition(pack: str | None = None, texts: Path | None = None) -> Edition:
    """The edition of a pack: a published one by its name, or a YAML file; without one, that which is in force here.

    The texts are those in the folder `texts`, else those beside the file (`NAME.texts/`), else those of the newest
    version. Raises PackError, PublicationError, or OSError if a file cannot be read.
    """
    if pack is not None and Path(pack).suffix in {".yaml", ".yml"}:
        return draft(Path(pack), texts).edition()
    source = published_source(pack)
    return (source if texts is None else Source(source.pack, read_texts(texts))).edition()


def draft(file: Path, texts: Path | None = None) -> Source:
    """A draft as `edition` reads it."""
    beside = file.with_suffix(".texts")
    folder = texts or (beside if beside.is_dir() else None)
    pack = file.read_bytes()
    if folder is not None:
        return Source(pack, read_texts(folder))
    newest = name_of(statements(installation())().newest)
    return Source(pack, published_source(newest).texts)


def published_source(name: str | None = None) -> Source:
    """A version that holds, by its name; without one, that which is in force. Raises PackError."""
    if name == CURRENT:
        return Source(published_file(), published_text_files())
    found = installation()
    register = statements(found)()
    known = {name_of(each): each for each in register.packs}
    wanted = name_of(register.in_force(datetime.now(UTC))) if name is None else name
    if wanted not in known:
        raise PackError(f"there is no published pack {wanted!r}; there is {', '.join(known)}, and any YAML file")
    if wanted == CURRENT:
        return Source(published_file(), published_text_files())
    files = PublicationFiles.read(found.home.cps / wanted)
    return Source(files.pack, files.texts)


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
