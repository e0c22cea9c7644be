"""The file that lets `openssl asn1parse -oid oids.txt` call our object identifiers by name."""

from __future__ import annotations

from pki.oids import ID_KWBP, NAMES


def oids_txt() -> str:
    """ASCII lines `dotted short-name long-name`, sorted by identifier, each ended by a line feed (asn1parse(1)).

    Only identifiers of our own arc: OpenSSL knows SET's already, and stops reading at the first one that it knows.
    """
    names = {oid.dotted_string: name for oid, name in NAMES.items()}
    own = sorted(dotted for dotted in names if dotted.startswith(ID_KWBP.dotted_string))
    return "".join(f"{dotted} {names[dotted]} {names[dotted]}\n" for dotted in own)
