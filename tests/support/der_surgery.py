"""Cut DER open, change one thing, close it again: how hostile twins are made.

    tree = parse(honest)            # Node with .tag, and .children (constructed) or .content (primitive)
    tree.at(1, 0, 3).children.pop() # path of child indexes
    twin = tree.encode()            # lengths are computed anew

`encode` always writes proper DER, so that the only wrong thing is the one that was changed on purpose; the functions at
the end write the encodings that BER allows and DER forbids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

CONSTRUCTED = 0x20


@dataclass
class Node:
    """One element: identifier octet, and children if constructed, else content."""

    tag: int
    content: bytes = b""
    children: list[Node] = field(default_factory=list)

    def at(self, *path: int) -> Node:
        """The descendant at a path of child indexes."""
        node = self
        for index in path:
            node = node.children[index]
        return node

    @property
    def body(self) -> bytes:
        """Contents octets."""
        if self.tag & CONSTRUCTED:
            return b"".join(child.encode() for child in self.children)
        return self.content

    def encode(self) -> bytes:
        """DER."""
        body = self.body
        return bytes((self.tag,)) + length(len(body)) + body


def length(size: int) -> bytes:
    """Minimal definite length octets."""
    if size < 0x80:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def header(data: bytes) -> tuple[int, int, int]:
    """Identifier octet, size of the header and size of the contents of the first element."""
    first = data[1]
    if first < 0x80:
        return data[0], 2, first
    count = first & 0x7F
    return data[0], 2 + count, int.from_bytes(data[2 : 2 + count], "big")


def parse_all(data: bytes) -> list[Node]:
    """Read a run of DER elements with one-byte tags."""
    nodes = []
    while data:
        tag, start, size = header(data)
        body, data = data[start : start + size], data[start + size :]
        nodes.append(Node(tag, children=parse_all(body)) if tag & CONSTRUCTED else Node(tag, body))
    return nodes


def parse(data: bytes) -> Node:
    """Read exactly one DER element."""
    (node,) = parse_all(data)
    return node


def long_length(data: bytes) -> bytes:
    """The same element with one length octet more than needed (BER, not DER)."""
    tag, start, size = header(data)
    octets = size.to_bytes(max(1, start - 2) + 1, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + data[start:]


def indefinite(data: bytes) -> bytes:
    """The same constructed element with indefinite length and end-of-contents octets (BER, not DER)."""
    tag, start, _ = header(data)
    return bytes((tag, 0x80)) + data[start:] + b"\x00\x00"


def resigned(tree: Node, key: object) -> bytes:
    """A certificate, CRL or PKCS#10 request whose changed first member is signed anew with a P-256 key."""
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    tree.at(2).content = b"\x00" + key.sign(tree.at(0).encode(), ec.ECDSA(hashes.SHA256()))
    return tree.encode()


def with_unused_bit(make: Callable[[], bytes]) -> bytes:
    """Make signed objects until a signature ends with a zero bit, and declare that bit unused."""
    while True:
        tree = parse(make())
        signature = tree.at(2)
        if not signature.content[-1] & 1:
            signature.content = b"\x01" + signature.content[1:]
            return tree.encode()
