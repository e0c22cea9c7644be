from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales import tlog

from audit.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    merkle_tree_hash,
    node_hash,
    tree_hash,
    verify_consistency,
    verify_inclusion,
)
from audit.verify import merkle_tree_hash as verifier_tree_hash
from tests.support.rfc6962 import naive_path, naive_proof, naive_root

SIZES = range(1, 40)

# The tree that the tests of certificate-transparency implementations share: these eight leaves, its root at each size.
LEAVES = [bytes.fromhex(leaf) for leaf in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def data(size: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(size)]


class Memory:
    """Nodes computed from all leaves."""

    def __init__(self, entries: list[bytes]) -> None:
        self.hashes = [leaf_hash(entry) for entry in entries]

    def __call__(self, level: int, index: int) -> bytes:
        leaves = self.hashes[index << level : (index + 1) << level]
        assert len(leaves) == 1 << level  # only complete subtrees may be asked for
        return merkle_tree_hash(leaves)


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert merkle_tree_hash([]) == verifier_tree_hash([]) == CompactRange().root() == EMPTY_ROOT == naive_root([])


@pytest.mark.parametrize("size", range(1, 9))
def test_known_trees_have_their_known_roots(size: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in LEAVES[:size]]
    assert merkle_tree_hash(hashes).hex() == verifier_tree_hash(hashes).hex() == ROOTS[size - 1]


@pytest.mark.parametrize("size", [*SIZES, 255, 256, 257, 1000])
def test_every_way_to_compute_a_root_agrees_with_the_definition(size: int) -> None:
    entries = data(size)
    node, tree = Memory(entries), CompactRange()
    for hash_ in node.hashes:
        tree.append(hash_)
    root = naive_root(entries)
    assert merkle_tree_hash(node.hashes) == verifier_tree_hash(node.hashes) == tree.root() == root
    assert tree_hash(size, node) == root


def test_whole_subtrees_append_like_their_leaves() -> None:
    node, tree = Memory(data(19)), CompactRange()
    tree.append(node(3, 0), 3)
    tree.append(node(3, 1), 3)
    fork = tree.copy()
    for index in (16, 17, 18):
        tree.append(node(0, index))
    assert (tree.size, tree.root()) == (19, naive_root(data(19)))
    assert (fork.size, fork.root()) == (16, naive_root(data(16)))


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_proofs_are_those_of_the_definition_and_hold(size: int) -> None:
    entries = data(size)
    node, root = Memory(entries), naive_root(entries)
    for index in range(size):
        proof = inclusion_proof(index, size, node)
        assert proof == naive_path(index, entries)
        assert verify_inclusion(index, size, node.hashes[index], proof, root)


@pytest.mark.parametrize("second", SIZES)
def test_consistency_proofs_are_those_of_the_definition_and_hold(second: int) -> None:
    entries = data(second)
    node, root = Memory(entries), naive_root(entries)
    for first in range(1, second + 1):
        proof = consistency_proof(first, second, node)
        assert proof == naive_proof(first, entries)
        assert verify_consistency(first, second, naive_root(entries[:first]), root, proof)


@pytest.mark.parametrize("size", [*SIZES, 300])
def test_an_independent_implementation_accepts_the_proofs(size: int) -> None:
    entries = data(size)
    node, root = Memory(entries), naive_root(entries)
    for index in range(0, size, 1 + size // 40):
        tlog.InclusionProof(index, size, inclusion_proof(index, size, node)).check(leaf_hash(entries[index]), root)
        first = index + 1
        proof = tlog.ConsistencyProof(first, size, consistency_proof(first, size, node))
        proof.check(naive_root(entries[:first]), root)


def test_the_empty_tree_and_the_tree_itself_need_no_proof() -> None:
    root = naive_root(data(5))
    assert consistency_proof(0, 5, Memory(data(5))) == consistency_proof(5, 5, Memory(data(5))) == []
    assert verify_consistency(0, 5, EMPTY_ROOT, root, [])
    assert verify_consistency(5, 5, root, root, [])
    assert verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    assert not verify_consistency(5, 5, root, EMPTY_ROOT, [])
    assert not verify_consistency(0, 5, root, root, [])
    assert not verify_consistency(0, 5, EMPTY_ROOT, root, [root])
    assert not verify_consistency(5, 5, root, root, [root])
    assert not verify_consistency(6, 5, root, root, [root])
    assert not verify_consistency(2, 5, root, root, [])


def test_what_is_not_in_the_tree_has_no_proof() -> None:
    node = Memory(data(5))
    for index in (-1, 5):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(index, 5, node)
        assert not verify_inclusion(index, 5, node.hashes[0], naive_path(0, data(5)), naive_root(data(5)))
    with pytest.raises(ValueError, match="does not extend"):
        consistency_proof(6, 5, node)


@st.composite
def trees(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(2, 70))
    return draw(st.integers(0, size - 1)), size


@given(trees(), st.data())
def test_no_changed_proof_of_inclusion_holds(tree: tuple[int, int], change: st.DataObject) -> None:
    index, size = tree
    entries = data(size)
    proof, leaf, root = naive_path(index, entries), leaf_hash(entries[index]), naive_root(entries)
    at = change.draw(st.integers(0, len(proof) - 1))
    other = node_hash(leaf, root)
    for wrong in (
        [*proof[:at], other, *proof[at + 1 :]],
        [*proof[:at], *proof[at + 1 :]],
        [*proof[:at], other, *proof[at:]],
        [*proof, other],
    ):
        assert not verify_inclusion(index, size, leaf, wrong, root)
    assert not verify_inclusion(index, size, other, proof, root)
    assert not verify_inclusion((index + 1) % size, size, leaf, proof, root)


@given(trees(), st.data())
def test_no_changed_proof_of_consistency_holds(tree: tuple[int, int], change: st.DataObject) -> None:
    first, second = tree[0] + 1, tree[1] + 1
    entries = data(second)
    proof, first_root, root = naive_proof(first, entries), naive_root(entries[:first]), naive_root(entries)
    at = change.draw(st.integers(0, len(proof) - 1))
    other = node_hash(root, root)
    for wrong in ([*proof[:at], other, *proof[at + 1 :]], [*proof[:at], *proof[at + 1 :]], [*proof, other]):
        assert not verify_consistency(first, second, first_root, root, wrong)
    assert not verify_consistency(first, second, other, root, proof)
    assert not verify_consistency(first, second, first_root, other, proof)
