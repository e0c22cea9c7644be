# time-stamps per second of the public service, each over HTTP with a number and a nonce of its own
#
# Sourced by scripts/bench, which says what $load, $seconds, $concurrency and $output are. Each of the $concurrency
# clients keeps eight requests under way, as clients of a public service are many. All is as in service: mutual TLS to
# the HSM service, typed signing, a claim for each number, intent and outcome on the disk, signed and witnessed logs.

scripts/setup --for-benchmarks --system-only
start_over "$DEMO"

chapter "Installation"
step "tokens" kwbp init --base-port "$(free_ports)"
for officer in security-officer-1 security-officer-2; do
  step "$officer has a key of their own" new_officer_key "$officer" ec-p256
done
step "ceremony" kwbp ceremony run
step "services started" serve
step "services ready" kwbp status witness hsm ca repository --wait 60

chapter "Time-stamps"
python -m scripts.benchmarks.tsa --load "$load" --seconds "$seconds" --concurrency "$((concurrency * 8))" \
  --output "$output" >"$DEMO/results"
step "every journal is whole" journals_whole
cat "$DEMO/results" >&3
stop_serving
