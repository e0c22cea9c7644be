"""What the statement says of documents on file."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cps.evidence_files import EvidenceFiles
from tests.support.cps_cases import Office


def test_sizes_are_in_mebibytes(office: Office) -> None:
    rule = office.pack.evidence_files
    assert (rule.largest_bytes, rule.together_bytes) == (rule.largest * 1024 * 1024, rule.together * 1024 * 1024)


def test_a_case_holds_at_least_one_document_of_the_largest_size() -> None:
    with pytest.raises(ValidationError, match="at least one document"):
        EvidenceFiles(section="4.2.1", largest=2, together=1, types=("text/plain",))


def test_a_type_that_nobody_judges_is_refused() -> None:
    with pytest.raises(ValidationError, match="types"):
        EvidenceFiles.model_validate({"section": "4.2.1", "largest": 1, "together": 1, "types": ["application/zip"]})
