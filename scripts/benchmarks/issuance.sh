# certificates a second of the CA, with lints, durable store and audit on, beside the raw rate of its own keys
#
# Sourced by scripts/bench, which says what $load, $seconds, $concurrency and $output are. Two installations, one whose
# cardholder CA has an RSA-3072 key and one where it is P-256; CA, HSM service and witness run as in service, in processes
# of their own. Cases are decided and confirmed beforehand; all of them are decided again by the CA and the HSM service.

scripts/setup --for-benchmarks --system-only
start_over "$DEMO"

found_suite() { # found_suite NAME CEREMONY: an installation in $DEMO/NAME
  export KWBP_HOME="$DEMO/$1/home"
  mkdir -p "$DEMO/$1"
  chapter "Installation: $1"
  step "$1: tokens" kwbp init --base-port "$(free_ports)"
  for officer in security-officer-1 security-officer-2; do
    step "$1: $officer has a key of their own" new_suite_officer "$1" "$officer"
  done
  step "$1: ceremony" kwbp ceremony run "$2"
}

new_suite_officer() { # new_suite_officer SUITE OFFICER
  kwbp officer new-passphrase "$DEMO/secrets/$1-$2" &&
    kwbp officer new-key "$2" --passphrase-file "$DEMO/secrets/$1-$2" --algorithm ec-p256
}

sed 's/name: cardholder-ca, template: issuing-ca,/name: cardholder-ca, template: issuing-ca-p256,/' \
  ca/ceremonies/kwbp.yaml >"$DEMO/p256.yaml"
found_suite rsa3072 kwbp
found_suite p256 "$DEMO/p256.yaml"
step "raw C loop compiled" cc -O2 -Wall -Wextra -Werror -o "$DEMO/raw_loop" scripts/benchmarks/native/raw_loop.c -ldl -lpthread

chapter "Issuance"
python -m scripts.benchmarks.issuance --load "$load" --seconds "$seconds" --concurrency "$concurrency" \
  --output "$output" --folder "$DEMO" >"$DEMO/results"
for suite in rsa3072 p256; do
  export KWBP_HOME="$DEMO/$suite/home"
  step "$suite: every journal is whole" journals_whole
done
cat "$DEMO/results" >&3
