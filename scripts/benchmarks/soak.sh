# growth of the HSM service's memory over a million operations
#
# Sourced by scripts/bench, which says what $load, $operations and $output are. The installation is that of `signing`.

source scripts/lib/signing_installation.sh
signing_installation

chapter "Soak"
python -m scripts.benchmarks.soak --load "$load" --operations "$operations" --output "$output" --native "$DEMO" >"$DEMO/results"
step "every journal is whole" journals_whole
cat "$DEMO/results" >&3
