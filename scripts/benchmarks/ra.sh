# applications a second from submission to certificate with two signed decisions; a page of the queue of a million; decide()
#
# Sourced by scripts/bench, which says what $load, $seconds, $concurrency and $output are. Two installations, whose RA
# keeps its database in SQLite and in PostgreSQL; every service runs as in service, in a process of its own. Merchants
# apply, the company register and the bank confirm them, one officer vets and another approves, the CA issues.

scripts/setup --for-benchmarks --system-only
start_over "$DEMO"

for database in sqlite postgresql; do
  export KWBP_HOME="$DEMO/$database/home"
  mkdir -p "$DEMO/$database"
  chapter "Installation: $database"
  step "$database: tokens" kwbp init --base-port "$(free_ports)"
  for officer in security-officer-1 security-officer-2; do
    rm -f "$DEMO/secrets/$officer"
    step "$database: $officer has a key of their own" new_officer_key "$officer" ec-p256
    mv "$DEMO/secrets/$officer" "$DEMO/$database/$officer"
  done
  step "$database: ceremony" kwbp ceremony run
done

chapter "Registration authority"
python -m scripts.benchmarks.ra --load "$load" --seconds "$seconds" --concurrency "$concurrency" --output "$output" \
  --folder "$DEMO" >"$DEMO/results"
for database in sqlite postgresql; do
  export KWBP_HOME="$DEMO/$database/home"
  step "$database: every journal is whole" journals_whole
done
cat "$DEMO/results" >&3
