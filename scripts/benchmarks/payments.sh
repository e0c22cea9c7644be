# payments per second through the whole system, what its tokens alone could do, latency, growth; SQLite and PostgreSQL
#
# Sourced by scripts/bench, which says what $load, $seconds, $concurrency and $output are. The installation is made by
# the commands of scripts/demo; card data stay in this shell's memory and reach the load generator through a pipe.

CARDS=''
cards=4
deposit=999999999999

new_card() { # new_card LABEL: an account, a card on it, and its certificate; EC keys, because buyers bring their own machines
  keep account kwbp --json bank open-account --holder "Buyer $1" --balance "$deposit" &&
    keep_secret card kwbp --json bank issue-card --iban "$(of account iban)" &&
    with_card kwbp wallet add-card "$1" --algorithm ec-p256 &&
    with_card kwbp wallet enrol "$1" &&
    CARDS+="${CARDS:+,}$CARD"
}

figures() { # figures FILE OPTION…: card data go through a pipe
  local file=$1
  shift
  python -m scripts.benchmarks.payments --shop bookshop --seconds "$seconds" --concurrency "$concurrency" "$@" \
    --wallet "$KWBP_WALLET" --cards $(seq -f 'card-%g' "$cards") --passphrase-file "$KWBP_WALLET_PASSPHRASE_FILE" \
    --token-home "$DEMO/bare-tokens" < <(printf '[%s]' "$CARDS") >"$DEMO/$file" || return
  printf '%s figures' "$(wc -l <"$DEMO/$file")"
}

again() { # again: the services once more, with the settings as they are now
  stop_serving
  serve
  kwbp status --wait 120 >/dev/null
}

start_over "$DEMO"

chapter "Installation"
step "tokens" kwbp init --base-port "$(free_ports)"
for officer in security-officer-1 security-officer-2 vetting-officer-1 approving-officer-1 approving-officer-2; do
  step "$officer has a key of their own" new_officer_key "$officer"
done
step "ceremony" kwbp ceremony run
step "zone keys" kwbp ceremony zone-keys
step "services started" serve
step "services ready" kwbp status hsm ca repository ra switch --wait 120
appoint vetting-officer-1 vetting_officer
appoint approving-officer-1 approving_officer
appoint approving-officer-2 approving_officer
step "gateway: keys asked for" keep asked kwbp --json gateway apply --organisation Acquirer
approve_keys gateway
step "gateway: applied" keep gateway kwbp --json gateway apply --organisation Acquirer
step "gateway: vetted" kwbp ra vet --yes "$(of gateway id)" $(as vetting-officer-1)
step "gateway: first approval" kwbp ra approve --yes "$(of gateway id)" $(as approving-officer-1)
step "gateway: second approval" kwbp ra approve --yes "$(of gateway id)" $(as approving-officer-2)
step "gateway: released" kwbp ra approve --yes "$(of gateway id)" $(as security-officer-1)
step "gateway: certificates at the keys" kwbp gateway collect "$(of gateway id)"
enrol_merchant bookshop M-1 Bookshop T0000001 "$(free_ports)"
step "gateway and shop ready" kwbp status gateway merchant-bookshop --wait 120
step "wallet" kwbp wallet create
for ((card = 1; card <= cards; card++)); do
  step "card-$card certified" new_card "card-$card"
done

chapter "Payments, the order book in SQLite"
step "what it can do, and how long a payment takes" figures sqlite
step "what a payment costs" figures empty --cost
stop_serving
step "$operations stored orders" python -m scripts.benchmarks.stored_orders "$KWBP_HOME" "$operations"
step "services started again" again
step "what a payment costs now" figures full --cost
step "every journal is whole" journals_whole

chapter "Payments, the order book in PostgreSQL"
stop_serving
coproc POSTGRESQL { exec python -m scripts.benchmarks.throw_away_postgresql; }
read -r KWBP_GATEWAY__DATABASE <&"${POSTGRESQL[0]}" || fail "PostgreSQL did not start"
export KWBP_GATEWAY__DATABASE
step "services started again" again
step "the gateway collects for the shop" kwbp gateway add-merchant M-1 --terminal T0000001 --name Bookshop \
  --iban IR820540102680020817909002
step "what it can do, and how long a payment takes" figures postgresql --suffix _postgresql
step "every journal is whole" journals_whole
stop_serving
kill "$POSTGRESQL_PID" 2>/dev/null || true

python -m scripts.benchmarks.payments_report --load "$load" --output "$output" --orders "$operations" \
  "$DEMO/empty" "$DEMO/full" "$DEMO/sqlite" "$DEMO/postgresql" >&3
