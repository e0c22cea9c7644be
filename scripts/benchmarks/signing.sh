# signatures per second of the signing API, with all safety on, beside the bare token's
#
# Sourced by scripts/bench, which says what $load, $seconds and $output are. The keys sign digests, so that the token's
# work is the same in all three arms; the API does all else as in service: mutual TLS, policy, intent and outcome on the
# disk, a signed and witnessed log.

source scripts/lib/signing_installation.sh
signing_installation

chapter "Signatures"
python -m scripts.benchmarks.signing --load "$load" --seconds "$seconds" --output "$output" --native "$DEMO" >"$DEMO/results"
step "every journal is whole" journals_whole
cat "$DEMO/results" >&3
