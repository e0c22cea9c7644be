# answers of the OCSP responder a second, signed ahead and live, over HTTP, beside those of `openssl ocsp`
#
# Sourced by scripts/bench, which says what $load, $seconds and $output are. The repository and the HSM service run as in
# service, in processes of their own; status comes from the CA's own database. The load generator is the same for both
# responders and shares the machine with them.

start_over "$DEMO"

chapter "Installation"
step "tokens" kwbp init --base-port "$(free_ports)"
for officer in security-officer-1 security-officer-2 vetting-officer-1 approving-officer-1 approving-officer-2; do
  step "$officer has a key of their own" new_officer_key "$officer" ec-p256
done
step "ceremony" kwbp ceremony run
step "load generator compiled" cc -O2 -Wall -Wextra -Werror -o "$DEMO/http_load" scripts/benchmarks/native/http_load.c

chapter "Certificate status"
python -m scripts.benchmarks.ocsp --load "$load" --seconds "$seconds" --concurrency "$concurrency" --output "$output" \
  --folder "$DEMO" >"$DEMO/results"
step "every journal is whole" journals_whole
cat "$DEMO/results" >&3
