# What scripts/demo does with the network and the acquirer's money. Sourced after scripts/lib/steps.sh.

pending_order() { # the bank's answer gets lost: the buyer is told that nobody knows yet, never that the order was declined
  local said
  if said=$(with_card kwbp --json wallet buy golestan --shop bookshop --card mehr --yes --card-from-stdin); then return 1; fi
  kept[pending]=$said
  echo "order $(of pending xid): $(of pending state), $(of pending auth_code)"
  [ "$(of pending state) $(of pending auth_code)" = "PENDING noReply" ]
}

reversed_by_itself() { # the gateway asks the network to take the debit back, until it says so
  local state='' tries
  for tries in {1..100}; do
    state=$(kwbp --json gateway order "$(of pending xid)" | field state)
    [ "$state" != REVERSED ] || break
    sleep 0.2
  done
  echo "$state"
  [ "$state" = REVERSED ]
}

next_day() { # next_day YYYY-MM-DD
  python -SEc 'import datetime, sys; print(datetime.date.fromisoformat(sys.argv[1]) + datetime.timedelta(days=1))' "$1"
}

open_day() { # open_day MERCHANT: the business day that its movements are counted in
  DAY=$(kwbp --json gateway days "$1" | python -SEc 'import json, sys; print(json.load(sys.stdin)[-1]["business_day"])')
  echo "$DAY"
}

totals_agree() { # 0500: the gateway's totals of the day and the network's
  kwbp --json gateway reconcile --day "$DAY" | python -SEc '
import json, sys
days = json.load(sys.stdin)
for day in days:
    print(day["merchant_id"], "ours", day["own"]["97"], "theirs", day["theirs"]["97"])
sys.exit(not days or any(day["state"] != "CLOSED" or day["own"] != day["theirs"] for day in days))'
}

lists_agree() { # the network's signed list of the day, matched with our movements one by one
  kwbp bank settlement-list "$DAY" --out "$DEMO/settlement-list.jsonl" >/dev/null
  kwbp gateway reconcile --day "$DAY" --import "$DEMO/settlement-list.jsonl" >/dev/null
  kwbp --json gateway differences | python -SEc '
import json, sys
differences = json.load(sys.stdin)
print(len(differences), "differences")
sys.exit(bool(differences))'
}

paid_out() { # paid_out MERCHANT RIAL: one payout, in one file that another person sends than made it, and the bank's answer
  local reference file=$DEMO/payments.xml
  kwbp gateway settle --day "$DAY" >/dev/null
  kwbp gateway payment make --out "$file" $(as security-officer-2) >/dev/null
  if kwbp gateway payment send 1 --file "$file" $(as security-officer-2) 2>"$DEMO/steps/refused-sender"; then return 1; fi
  kwbp gateway payment send 1 --file "$file" $(as security-officer-1) >/dev/null
  reference=$(kwbp --json gateway settlements --merchant "$1" | python -SEc 'import json, sys; print(json.load(sys.stdin)[0]["reference"])')
  printf 'reference,status,reason\n%s,PAID,\n' "$reference" >"$DEMO/bank-answer.csv"
  kwbp gateway payment answer "$DEMO/bank-answer.csv" >/dev/null
  kwbp --json gateway settlements --merchant "$1" | python -SEc '
import json, sys
(payout,) = json.load(sys.stdin)
print(payout["reference"], payout["state"], payout["amount"], "rial to", payout["iban"])
sys.exit((payout["state"], payout["amount"]) != ("PAID", int(sys.argv[1])))' "$2"
}
