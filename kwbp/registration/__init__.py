"""Registration, rows 1 to 5 of the catalogue: how a cardholder, a merchant and a gateway get their certificates.

    wallet ── CardCInitReq/Res ──────────── RA                     which authority, which statement, a challenge
    wallet ── RegFormReq/Res ────────────── RA ── form ─── bank    the form of the card's bank, and its sealing key
    wallet ── CertReq ───────────────────── RA ── CertReq ─ bank   key, and card data that only the bank can open
    wallet ── CertRes, to a one-time key ── RA                     status, nonceCCA, certificate
    merchant ── MerInitReq/Res, MerCertReq/Res ── RA
    gateway ── GwCertReq/Res ── RA

Who may know what decides the layout. Neither the registration authority nor the certification authority ever sees a
card number: what names the card is sealed to the bank that issued it, and the authority passes it on unopened. The bank
answers with a CardConfirmation, which holds the commitment and no card. Where this departs from the field lists of SET
and of the catalogue, and why:

- RegFormReq carries the BIN in clear instead of the PAN sealed to the CCA: the BIN is all that is needed to choose a
  form, and the authority must not learn more. So neither the CCA nor the RA has an encryption certificate.
- PANData0 is sealed to the bank, and inside CertReq instead of beside the PKCS#10. The rest of CertReq (key, BIN) holds
  nothing that the certificate will not show, and goes in clear, signed with the key to be certified.
- The bank, not the CA, derives PANSecret from CardSecret and nonceCCA, for who derives it must know the PAN.
- A key without a certificate signs with a self-signed one of the same key beside it, as in SCEP (RFC 8894 2.3): the
  SignedData profile binds a signer by its certificate. Nothing in that certificate is believed but the key.
- The bank's sealing key comes in a form that the bank signs (`IssuerFormTBS`), not in a certificate: the bank can
  replace it from one day to the next without a ceremony. Such a key, and the one-time key, is named as recipient by a
  hash of itself (`sealing.key_recipient`).
- InitRes carries no BCI: the list of all lists is at the repository, beside the lists that it names, and whoever
  verifies a path fetches both.
- InitReq, RegFormReq and MerInitReq are bare: nobody has a key yet. They ask, and change nothing.
- GwCertReq needs no InitReq: a gateway has a service certificate from the ceremony and signs with it.

The same request again, byte for byte, is the way to ask how an application stands: it makes no second one.

| module | about |
| --- | --- |
| `messages` | the structures |
| `init`, `form` | rows 1, 2 and the first half of 4: challenge and form |
| `card` | CertReq: what the wallet seals and signs, what the authority checks |
| `issuer` | the card's bank: the request passed on to it, the opened card data |
| `members` | MerCertReq and GwCertReq |
| `answer` | CertRes, MerCertRes, GwCertRes |
| `challenge`, `sealing`, `signers` | parts of these |
"""
