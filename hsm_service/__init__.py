"""The HSM service: every private-key operation, inside a PKCS#11 token, for a named caller, under a policy, on record.

The only package that loads a PKCS#11 module. From the outside in, the way that a request takes:

    clients         what other packages import
      service               the interface, in process and over the network
      client async_client calls retry       both clients, and what they share
      remote_key held_key   a key of the service for `cryptography` and what builds on it
      request               PKCS#10 requests of token keys

    API             HTTP, and the bodies of its requests and answers
      app hot_path          the routes; those that sign bypass the framework
      key_life_routes operation_routes crl_routes
      wire key_commands operation_info      bodies
      workers idempotency refusals          threads, repeats, and what is refused at the edge
      openapi openapi_access openapi_parts openapi_route openapi_page

    the vault       one door to the keys
      vault bound           puts everything below together; the vault as one caller sees it
      access                who may do what with which key
      steps                 "judge, intent, token, outcome, answer", blocking or on an event loop
      lending               keys lent to plug-ins, each time for one recorded operation
      record ledger         the journal's entries, and what they forbid to happen twice

    typed signing   what is signed, kind by kind; each judge is pure
      signing kinds         the path of a signature, and the table of kinds
      judging               what all judges share
      typed_certificate typed_approval typed_renewal beliefs chain
      typed_crl crl_reader typed_cms typed_ocsp typed_timestamp typed_checkpoint typed_request typed_raw
      message batches schemes encodings

    keys            what they are for, where they stand, where they lie
      purposes templates    what a key is for; who may have which key do what (templates.yaml)
      registry key_tables key_states key_versions limits
      custody kept_key key_places key_check
      key_management key_life zone_working_keys attestation
      backup backup_file backup_process restored_keys

    dual control    what officers must approve before it is done (dual_control.yaml)
      operation_request operation_text operation_draft      what is approved, shown and signed
      dual_control_policy dual_control key_approval         whether it is approved
      operations operation_docket operation_store           asking, approving, executing once

    token processes each token in a process of its own
      supervised supervised_operations breaker token_child token_batch      the parent's side
      token_process token_wire                                              the child, and what goes between them
      operation_counts

    tokens          PKCS#11
      token_operations tokens key_store logged_in sessions  what is done in a token, and by which session
      keys mechanisms gcm_from_blocks private_key
      probe capabilities    what a token can do, and which purposes it can therefore serve
      pkcs11_module openssl_errors return_codes errors

    running it      places, PINs, health
      token_layout token_source token_uri token_state provision
      officer_token officer_token_place     an officer's own token or smart card
      pin_sources pin_shares pin_change
      upkeep self_test metrics token_metrics
"""
