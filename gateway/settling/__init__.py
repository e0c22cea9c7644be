"""Rows 19 to 23 at the gateway: the money after the authorisation.

| module | about |
| --- | --- |
| `states`, `row` | the life of a request, one row of it |
| `book`, `store` | what stands of an order; every step of a request, durable before its effect |
| `translation`, `forwarding` | the messages to the switch; sending, repeating, signing what came of it |
| `requests` | CapReq, CapRevReq, AuthRevReq, CredReq, CredRevReq, from bytes to signed answer |
| `batches` | BatchAdminReq |
| `reconciliation` | totals of a business day, compared with the switch (0500) |
| `advices` | SettleAdvice of a closed business day |
| `routes` | HTTP |

The states of an order (`gateway.states`) are not touched by any of it: whoever asks here must have acknowledged the
order, and an order that is ACKED is not reversed by itself any more. So the clock that reverses without an AuthAck and
these requests meet in one compare-and-set, that of the acknowledgement.
"""
