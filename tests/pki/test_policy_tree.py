"""Certificate policies along a path: what PKITS does not ask."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.errors import PathError
from pki.oids import POLICY_MAPPINGS
from pki.policy_tree import ANY_POLICY, PolicySettings, PolicyTree
from tests.support.pki_factory import DAY, NOW, p256

KEY = p256()
P = [x509.ObjectIdentifier(f"1.2.3.{n}") for n in range(40)]


def extensions(*values: x509.ExtensionType) -> x509.Extensions:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1).public_key(KEY.public_key())
    )
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + DAY)
    for value in values:
        builder = builder.add_extension(value, critical=False)
    return builder.sign(KEY, hashes.SHA256()).extensions


def policies(*named: x509.ObjectIdentifier) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(policy, None) for policy in named])


def mappings(der: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(POLICY_MAPPINGS, der)


def refusal(tree: PolicyTree, *values: x509.ExtensionType) -> str:
    with pytest.raises(PathError) as error:
        tree.take(extensions(*values), self_issued=False, last=False)
    return error.value.reason


def test_a_policy_that_stands_twice_is_refused() -> None:
    assert refusal(PolicyTree(2, PolicySettings()), policies(P[1], P[1])) == "bad_extension"


def test_mappings_that_cannot_be_read_are_refused() -> None:
    assert refusal(PolicyTree(2, PolicySettings()), policies(P[1]), mappings(b"\x05\x00")) == "bad_extension"


def test_mappings_cannot_make_the_tree_grow_without_end() -> None:
    """Each of 39 policies is mapped to all 39: without a bound the next level has 39 times as many nodes."""
    one = [bytes((0x06, 0x03, 0x2A, 0x03, n)) for n in range(39)]
    pairs = b"".join(b"\x30\x0a" + a + b for a in one for b in one)
    der = b"\x30\x82" + len(pairs).to_bytes(2, "big") + pairs
    tree = PolicyTree(9, PolicySettings())
    tree.take(extensions(policies(*P[:39]), mappings(der)), self_issued=False, last=False)
    assert refusal(tree, policies(*P[:39])) == "policy_refused"


def test_any_policy_answers_what_is_asked() -> None:
    asked = frozenset({P[1]})
    tree = PolicyTree(1, PolicySettings(asked, explicit_policy=True))
    tree.take(extensions(policies(ANY_POLICY)), self_issued=False, last=True)
    assert tree.policies == asked


@pytest.mark.parametrize("required", [0, 1])
def test_the_last_certificate_may_still_require_a_policy(required: int) -> None:
    constraints = x509.PolicyConstraints(require_explicit_policy=required, inhibit_policy_mapping=None)
    tree = PolicyTree(1, PolicySettings())
    if required:
        tree.take(extensions(constraints), self_issued=False, last=True)
        assert tree.policies == frozenset()
    else:
        with pytest.raises(PathError) as error:
            tree.take(extensions(constraints), self_issued=False, last=True)
        assert error.value.reason == "policy_refused"


def test_constraints_may_state_one_of_the_two() -> None:
    constraints = x509.PolicyConstraints(require_explicit_policy=None, inhibit_policy_mapping=0)
    tree = PolicyTree(2, PolicySettings())
    tree.take(extensions(policies(P[1]), constraints), self_issued=False, last=False)
    tree.take(extensions(policies(P[1])), self_issued=False, last=True)
    assert tree.policies == {P[1]}
