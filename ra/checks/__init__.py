"""Identity checks: what the registration authority asks registers of others about an applicant (CPS 3.2, 4.2.1).

| module       | does                                                                                     |
| ------------ | ---------------------------------------------------------------------------------------- |
| `connector`  | what a register looks like from here: a question, an answer, no answer                     |
| `wire`       | the JSON of our interface to a register, and what its facts mean for a question            |
| `https`      | connectors that speak it, over mutual TLS                                                  |
| `tables`     | checks and phones in the RA's database                                                     |
| `store`      | reading and writing them, each step by whoever is first                                    |
| `breaker`    | leaves a register alone that does not answer                                               |
| `driver`     | asks, asks again, gives up, and hands what came of it to `ra.intake`                       |
| `phone`      | one-time codes                                                                             |
| `routes`     | the HTTP of it                                                                             |

Which checks a class has, how long they may take and what comes of each answer is data (`cps.check_model`).
"""
