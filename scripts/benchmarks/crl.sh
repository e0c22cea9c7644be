# seconds from stored rows to a signed list of 100,000 and of a million entries, and memory of the CA meanwhile
#
# Sourced by scripts/bench, which says what $load and $output are. The database is the CA's own, the lists are signed by
# the HSM service in a process of its own over mutual TLS, with typed signing and a durable journal; every signature is
# verified.

start_over "$DEMO"

chapter "Installation"
step "tokens" kwbp init --base-port "$(free_ports)"
for officer in security-officer-1 security-officer-2 vetting-officer-1 approving-officer-1 approving-officer-2; do
  step "$officer has a key of their own" new_officer_key "$officer" ec-p256
done
step "ceremony" kwbp ceremony run

chapter "Revocation lists"
python -m scripts.benchmarks.crl --load "$load" --output "$output" --folder "$DEMO/crl" >"$DEMO/results"
step "every journal is whole" journals_whole
cat "$DEMO/results" >&3
