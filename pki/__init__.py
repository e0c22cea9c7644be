"""Certificates, signed and sealed messages: what is believed, decided from bytes and a moment alone.

Pure: no I/O, no clock, no randomness of its own. From the bottom up:

| module | subject |
| --- | --- |
| `errors` | the tree of refusals |
| `oids` | every object identifier |
| `der` | strict DER with one encoding a value |
| `signed` | the outer shape of certificates, CRLs and requests |
| `algorithms` | closed lists of algorithms, as bytes |
| `keys` | which public keys are fit |
| `names` | distinguished names, identities as URIs |
| `extensions` | the certificate extensions of KWBP |
| `roles` | what a certificate is for |
| `csr` | PKCS#10 at the door |
| `crl_entries` | who is on a revocation list |
| `crl_scope` | which certificates a revocation list speaks about |
| `crl` | revocation lists in force: full, delta, partition |
| `policy_tree` | certificate policies along a path |
| `name_constraints` | which names a CA may certify |
| `rfc5280` | certification paths by RFC 5280 alone |
| `validator` | paths found and judged by RFC 5280 alone |
| `path` | certification paths of KWBP |
| `cms_signed` | SignedData in the profile |
| `cms_enveloped` | AuthEnvelopedData in the profile |
| `attestation` | what a token says about a key |
| `builder` | TBS bytes first, signature later |
"""
