"""KWBP, the payment protocol: DER messages, dual signature, and the checks of every party. Pure: bytes, certificates,
time and randomness in; a verdict, or bytes to sign, out.

| module | about |
| --- | --- |
| `wallet`, `merchant`, `gateway` | what each party builds and checks, in the order of the protocol |
| `settling` | captures, reversals, credits, batches, settlement (rows 19 to 23) |
| `registration` | how each party gets its certificates (rows 1 to 5) |
| `messages`, `wrapper`, `structure`, `fields` | the DER structures and how they are read and written |
| `common` | the common prefix K1 to K7 of all checks |
| `checks`, `codes`, `errors`, `error_message` | ids of the checks, codes of the protocol, refusals, the Error message |
| `commitment`, `parties`, `money`, `text` | card commitment, who a certificate names, rial, text that cannot deceive |
| `validators`, `signing` | what a signing service asks before a key signs a content |

Messages are checked in steps whose results are types: `receive_…` gives a structure that nobody has verified,
`check_…` gives a statement that somebody stands behind, and what needs the one cannot be called with the other.
"""
