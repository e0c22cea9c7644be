# The installation of the benchmarks of the signing API: keys that sign digests, in the token of the CA. Sourced by them,
# after scripts/lib/steps.sh.

compile_native() { # compile_native DIR: the raw loop and the load generator
  cc -O2 -Wall -Wextra -Werror -o "$1/raw_loop" scripts/benchmarks/native/raw_loop.c -ldl -lpthread &&
    cc -O2 -Wall -Wextra -Werror -o "$1/load" scripts/benchmarks/native/load.c -lssl -lcrypto -lm
}

signing_installation() {
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
}
