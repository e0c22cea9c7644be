"""The conformance suite on tpm2-pkcs11 on a software TPM, if KWBP_TEST_TPM=1."""

from tests.conformance.suite import (  # noqa: F401
    test_a_token_serves_a_purpose_only_if_keys_stay_in_it,
    test_check,
    test_every_finding_has_either_a_result_or_a_reason,
    test_the_probe_sees_at_least_what_this_token_is_known_for,
)

TOKEN = "tpm"
