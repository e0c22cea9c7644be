"""What changes between two packs: each value under its section, and the headings that read anew."""

from __future__ import annotations

from cps.document_difference import Change, Reading, difference, section_of
from cps.document_values import values
from cps.rfc3647 import heading_of, outline
from tests.support.statements import published_edition, with_pack, with_passage


def test_an_edition_does_not_differ_from_itself() -> None:
    found = difference(published_edition(), published_edition())
    assert (found.changes, found.readings) == ((), ())


def test_a_value_that_changes_is_named_with_its_section_and_the_table_that_shows_it() -> None:
    found = difference(published_edition(), with_pack(("approving_officer, count: 2", "approving_officer, count: 3")))
    assert found.changes == (Change("4.2/gateway", "classes.gateway.steps.approve.count", "2", "3"),)
    assert found.readings == (Reading("4.2.2", "en", "tables"), Reading("4.2.2", "fa", "tables"))


def test_a_value_that_prose_quotes_changes_the_prose() -> None:
    found = difference(published_edition(), with_pack(("longest: P30D", "longest: P31D")))
    assert found.changes == (Change("4.9.16", "suspension.longest", "P30D", "P31D"),)
    assert found.readings == (Reading("4.9.16", "en", "prose"), Reading("4.9.16", "fa", "prose"))


def test_a_sentence_that_changes_is_a_reading_and_no_change_of_a_rule() -> None:
    passage = published_edition().texts.passages["4.9.4"]
    found = difference(published_edition(), with_passage("4.9.4", en="At once.", fa=passage.fa))
    assert found.changes == ()
    assert found.readings == (Reading("4.9.4", "en", "prose"),)


def test_what_is_new_and_what_is_gone_is_told_apart() -> None:
    evidence = "      - {kind: acquirer_agreement, max_age: P398D}\n"
    shorter = with_pack((evidence, ""))
    gone = difference(published_edition(), shorter).changes
    start = "classes.merchant.evidence.acquirer_agreement"
    assert gone == (
        Change("4.2/merchant", f"{start}.kind", "acquirer_agreement", None),
        Change("4.2/merchant", f"{start}.max_age", "P398D", None),
        Change("4.2/merchant", f"{start}.form", "document", None),
        Change("4.2/merchant", f"{start}.instead", "", None),
    )
    back = difference(shorter, published_edition()).changes
    assert [(each.path, each.old, each.new) for each in back] == [(each.path, None, each.old) for each in gone]


def test_every_part_of_the_pack_has_its_section() -> None:
    changes = {
        ("version: 1.0.0", "version: 1.0.1"): ("1.2", "cps.version"),
        ("effective: 2026-01-01", "effective: 2026-02-01"): ("9.10.1", "cps.effective"),
        ("roles: [applicant, ", "roles: ["): ("5.2.1", "roles"),
        ("[ca_operator, security_officer, auditor]", "[security_officer, auditor]"): ("5.2.4", "exclusive.1"),
        ("urn:kwbp:service:ra", "urn:kwbp:service:ra2"): ("5.2.3", "signers.system_step"),
        ("rsa: {min: 3072", "rsa: {min: 4096"): ("6.1.5", "key_rules.strong.any_of.0.rsa.min"),
        ("bin_unknown: 100", "bin_unknown: 99"): ("4.2.1", "risk.signals.bin_unknown"),
        ("skew: PT2M", "skew: PT1M"): ("4.2.2", "clocks.skew"),
        ("retention_years: 7", "retention_years: 8"): ("5.5.2", "clocks.retention_years"),
        ("warn_at: [0.5, 0.8]", "warn_at: [0.5, 0.9]"): ("4.9.5", "clocks.warn_at"),
        ("revoke_publish: PT24H", "revoke_publish: PT12H"): ("4.9.8", "clocks.revoke_publish"),
        ("PT24H\n    steps: [{name: suspend", "PT1H\n    steps: [{name: suspend"): (
            "4.9.13",
            "revocation.certificateHold.deadline",
        ),
        ("security_officer], count: 2}", "security_officer], count: 3}"): ("4.9.12", "denylist.steps.deny.count"),
        ("decides on a certificate of their own", "decides on their own"): ("5.2.4", "rules.SOD-OWN.text"),
        ('"5.1": "physical security"', '"5.1": "the site"'): ("5.1", "procedural.5.1"),
    }
    found = difference(published_edition(), with_pack(*changes)).changes
    assert sorted((each.section, each.path) for each in found) == sorted(changes.values())


def test_no_value_of_the_pack_is_without_a_section() -> None:
    pack = published_edition().pack
    sections = {path: section_of(path, pack) for path in values(pack) if path != "digest"}
    assert {heading_of(section) for section in sections.values()} <= set(outline())
    assert sections["cps.on_supersede"] == "9.12.1"
