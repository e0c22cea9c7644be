"""Merkle trees of RFC 6962, 2.1 (RFC 9162, 2.1 with SHA-256): their hashes, and proofs that are made and checked.

A tree of n leaves is the same whoever computes it. What can be proved of it: that an entry is in it (inclusion), and
that it extends an earlier tree, of which it altered nothing (consistency). Proofs are made from *nodes*: `node(level,
index)` is the hash of the complete subtree over the leaves `[index * 2**level, (index + 1) * 2**level)`. Where nodes
come from is not asked here: from memory, or from tiles (`audit.tiles`).

Pure. Hashes are 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

Node: TypeAlias = Callable[[int, int], bytes]
"""`node(level, index)`: hash of a complete subtree."""

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()
"""MTH of the empty list."""

_sha256: Final = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """MTH({d}) = SHA-256(0x00 || d)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


def merkle_tree_hash(hashes: Sequence[bytes]) -> bytes:
    """MTH of a list of leaf hashes, or of the roots of complete subtrees of one size.

    Pairs are joined level by level; what is left over goes up as it is. The RFC splits at the largest power of two
    from above, which gives the same tree.
    """
    if not hashes:
        return EMPTY_ROOT
    while len(hashes) > 1:
        above = [_sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes) - 1, 2)]
        if len(hashes) % 2:
            above.append(hashes[-1])
        hashes = above
    return hashes[0]


class CompactRange:
    """A growing tree of which only the roots of its complete subtrees are kept: as many as its size has one bits."""

    __slots__ = ("_subtrees", "size")

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []  # largest first

    def append(self, hash_: bytes, level: int = 0) -> None:
        """Append a leaf hash, or the root of the complete subtree of the next 2**level leaves.

        The size must be a multiple of 2**level.
        """
        size = self.size >> level
        while size & 1:
            hash_ = _sha256(b"\x01" + self._subtrees.pop() + hash_).digest()
            size >>= 1
        self._subtrees.append(hash_)
        self.size += 1 << level

    def root(self) -> bytes:
        """MTH of all that was appended."""
        if not self._subtrees:
            return EMPTY_ROOT
        *left, root = self._subtrees
        for subtree in reversed(left):
            root = _sha256(b"\x01" + subtree + root).digest()
        return root

    def copy(self) -> CompactRange:
        """The same tree, to grow differently."""
        other = CompactRange()
        other.size, other._subtrees = self.size, self._subtrees.copy()
        return other


def tree_hash(size: int, node: Node) -> bytes:
    """MTH(D[0:size]) from nodes."""
    return _range_hash(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """PATH(index, D[0:size]), RFC 6962 2.1.1: from the leaf's sibling up. Raises ValueError for no leaf of the tree."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(_range_hash(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, node: Node) -> list[bytes]:
    """PROOF(first, D[0:second]), RFC 6962 2.1.2; empty if first is 0 or second, which need no proof.

    Raises ValueError unless 0 <= first <= second.
    """
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {second} leaves does not extend one of {first}")
    if first in (0, second):
        return []
    proof: list[bytes] = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append(_range_hash(middle, end, node))
            end = middle
        else:
            proof.append(_range_hash(start, middle, node))
            start = middle
    if start:  # otherwise the verifier has this hash: it is the root of the first tree
        proof.append(_range_hash(start, end, node))
    return proof[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows the leaf hash `leaf` at `index` of the tree with `size` and `root` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the second tree extends the first (RFC 9162 2.1.4.2).

    The empty tree is extended by all, and a tree by itself: without a proof.
    """
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof and first_root == EMPTY_ROOT and second > 0
    if not 0 < first < second or not proof:
        return False
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root


def _split(size: int) -> int:
    """The largest power of two smaller than `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hash(start: int, end: int, node: Node) -> bytes:
    """MTH(D[start:end]) where `start` is a multiple of the smallest power of two that is not below the length."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(size)
    return node_hash(_range_hash(start, middle, node), _range_hash(middle, end, node))
