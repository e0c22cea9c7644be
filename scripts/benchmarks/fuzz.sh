# hostile bytes for every reader, --seconds each: executions per second, news for the corpus, and faults
#
# Sourced by scripts/bench, which says what $load, $seconds, $concurrency and $output are. $concurrency processes share
# the readers. What broke a rule is in the benchmark's folder, and the run says how to see it again.

mkdir -p "$DEMO/fuzz"
chapter "Hostile bytes"
python -m scripts.benchmarks.fuzz --folder "$DEMO/fuzz" --load "$load" --seconds "$seconds" \
  --concurrency "$concurrency" --output "$output" >"$DEMO/results" || { cat "$DEMO/results" >&3; exit 1; }
cat "$DEMO/results" >&3
