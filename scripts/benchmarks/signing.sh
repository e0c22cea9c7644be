# signatures per second of the signing API, with all safety on, beside the bare token's
#
# Sourced by scripts/bench, which says what $load, $seconds and $output are. The keys sign digests, so that the token's
# work is the same in all three arms; the API does all else as in service: mutual TLS, policy, intent and outcome on the
# disk, a signed and witnessed log.

compile_native() { # compile_native DIR: the raw loop and the load generator
  cc -O2 -Wall -Wextra -Werror -o "$1/raw_loop" scripts/benchmarks/native/raw_loop.c -ldl -lpthread &&
    cc -O2 -Wall -Wextra -Werror -o "$1/load" scripts/benchmarks/native/load.c -lssl -lcrypto -lm
}

scripts/setup --for-benchmarks --system-only
start_over "$DEMO"

chapter "Installation"
step "tokens" kwbp init --base-port "$(free_ports)"
for officer in security-officer-1 security-officer-2 vetting-officer-1 approving-officer-1 approving-officer-2; do
  step "$officer has a key of their own" new_officer_key "$officer" ec-p256
done
step "ceremony" kwbp ceremony run
step "keys that sign digests" python -m scripts.benchmarks.signing_keys
step "raw C loop and load generator compiled" compile_native "$DEMO"

chapter "Signatures"
python -m scripts.benchmarks.signing --load "$load" --seconds "$seconds" --output "$output" --native "$DEMO" >"$DEMO/results"
step "every journal is whole" journals_whole
cat "$DEMO/results" >&3
