"""The tree of refusals."""

from __future__ import annotations

import pytest

from pki import errors


@pytest.mark.parametrize(
    "kind",
    [
        errors.DerError,
        errors.CertificateError,
        errors.CsrError,
        errors.PathError,
        errors.OcspError,
        errors.CmsError,
    ],
)
def test_every_error_carries_reason_detail_and_clause(kind: type[errors.PkiError]) -> None:
    error = kind("a_slug", "a sentence", clause="RFC 5280 4.1")
    assert (error.reason, error.detail, error.clause) == ("a_slug", "a sentence", "RFC 5280 4.1")
    assert str(error) == "a_slug: a sentence"
    assert isinstance(error, errors.PkiError)
    assert kind.__name__ in (errors.__doc__ or "")


def test_an_error_without_detail_shows_its_slug() -> None:
    assert str(errors.PathError("revoked")) == "revoked"
