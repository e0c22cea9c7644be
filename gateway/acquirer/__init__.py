"""The acquirer: whose money it is that the gateway collects, what is kept of it, and when it is paid.

| module | about |
| --- | --- |
| `ledger` | accounts and postings of the double-entry ledger; pure |
| `fees` | what the acquirer keeps, by merchant, MCC and date; pure, data in YAML |
| `matching` | the network's list of a day against our own movements, one by one; pure |
| `payment_file`, `bank_answer` | pain.001 and CSV to the bank's clearing, pain.002 and CSV back; pure |
| `tables` | what is kept of all this |
| `journal` | postings, written in the transaction that causes them; built anew from the causes to verify them |
| `day_end` | what the closing of a business day does to the books |
| `differences` | lists of the network, what they show, what people say of it |
| `payouts`, `payment_files` | what is paid to a merchant for a business day; how the bank is told |
| `report`, `report_csv`, `report_pdf` | a merchant's day for people |
| `routes` | HTTP |

Movements come in through `gateway.settling.entries` alone, days are closed by `gateway.settling.reconciliation` alone;
both call into this package within their own transaction.
"""
