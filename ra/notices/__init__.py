"""Notices: what the registration authority tells applicants and officers, by e-mail and by signed webhook.

    transitions ──► outbox ──► courier ──► SMTP, spool folder
    other sources ─►        (leased)  └──► webhooks (CMS over JSON)

A notice comes of a row that was written with the event itself, so nothing is lost with a process and nothing is told
of what was rolled back. It is delivered at least once: what was sent and not yet noted as sent is sent again, with the
same identifier and marked as a repeat. What cannot be delivered stays visible until somebody looks (`kwbp ra notices`).

Which event goes to whom is `rules.yaml`, what it says `templates.en.yaml` and `templates.fa.yaml`.

No text that a person wrote is ever quoted, whoever wrote it: an officer's reason may hold what it should not (a card
number, a national code), and mail is read by every relay. A notice says what happened, by which clauses, and where to
read the rest. One-time codes do not pass through here: the outbox is a database, and they are in none in clear.
"""
