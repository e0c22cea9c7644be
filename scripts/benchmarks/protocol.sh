# microseconds and instructions to build and to check each message of the protocol, without the token
#
# Sourced by scripts/bench, which says what $load, $seconds and $output are. Nothing is installed: parties, certificates
# and software keys are made in memory. Of building, the signature is left out; of checking, it is shown apart.

scripts/setup --for-benchmarks --system-only
mkdir -p "$DEMO/protocol"

chapter "Messages of the protocol"
python -m scripts.benchmarks.protocol --folder "$DEMO/protocol" --load "$load" --seconds "$seconds" \
  --output "$output" >"$DEMO/results"
cat "$DEMO/results" >&3
