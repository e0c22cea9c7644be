"""The merchant's side of rows 19 to 23: money is captured, taken back, given back, counted in batches, advised.

| module | about |
| --- | --- |
| `schema`, `book` | what is kept: every request and answer as it was signed, the entries of batches, the advices |
| `states` | what became of a request; how an order's money stands, in a word |
| `wishes` | what a person asks for, and the request that says so; pure |
| `sending` | a request that is kept is sent, the same bytes, until its outcome is known |
| `batches`, `advices` | batches are opened, asked and closed; the acquirer's advice is compared with the own book |
| `office` | what the merchant's people may ask for: the one way in |
| `routes` | the same over HTTP |

An order's `OrderState` ends with the receipt. How its money stands after that is no further state but follows from the
gateway's signed answers (`kwbp.settling.Standing`), so the two cannot disagree.
"""
