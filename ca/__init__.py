"""The certificate authority: who is certified, under which rules, and until when (RFC 5280, CPS 4 and 7).

profile, profiles/        what each kind of certificate looks like, as data
ceremony/, ceremonies/    the founding of the hierarchy: plan, run, verify; the root's later CRLs
orders → prepare → lints  from an approved case to the bytes that may be signed
issuance, authorisation   prepare, lint, intend, sign, compare, store: once, whatever is killed
revocation, crl           an officer's order, and the CRL that tells everybody
publisher, hierarchy      the published folder: what every party pins and fetches
store, tables, record     the database and the audit journal
authority                 all of it in service; `app` over mutual TLS, `client` for its callers
repository                CRLs, CA certificates and /status for anybody; `status_client` for relying parties
"""
