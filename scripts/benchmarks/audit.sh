# entries per second that the audit log makes durable, and how long it takes to verify a million
#
# Sourced by scripts/bench, which says what $load, $seconds, $concurrency and $output are. It needs no installation: a
# log of its own, on the disk of the working tree, is written and removed.

python -m scripts.benchmarks.audit --load "$load" --seconds "$seconds" --concurrency "$concurrency" \
  --output "$output" --folder "$DEMO/audit" >&3
