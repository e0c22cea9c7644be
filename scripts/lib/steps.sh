# Steps of a demonstration: each runs a command, shows one line, and is recorded for report.json. Sourced by scripts/demo
# and scripts/bench. Needs $DEMO; secrets stay in files of mode 0600 and in shell variables, never in arguments.

if [ -t 1 ]; then
  green=$'\e[32m' red=$'\e[31m' bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
  green='' red='' bold='' dim='' plain=''
fi
declare -A kept
CARD=''
serving=''
number=0
started=$SECONDS

start_over() { # start_over DIR: an empty folder for this run
  rm -rf "$1"
  mkdir -p "$1/secrets" "$1/steps"
  chmod 700 "$1"
  : >"$1/report.jsonl"
  trap stop_serving EXIT
  kwbp officer new-passphrase "$DEMO/secrets/buyer" >/dev/null
}

chapter() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

record() { python -SEc 'import json, sys; print(json.dumps(dict(zip(sys.argv[1::2], sys.argv[2::2]))))' "$@" >>"$DEMO/report.jsonl"; }

step() { # step TEXT COMMAND…: the command must succeed
  local text=$1 before=$SECONDS log
  shift
  number=$((number + 1))
  log=$(printf '%s/steps/%02d.log' "$DEMO" "$number")
  if "$@" >"$log" 2>&1; then
    printf '  %s✓%s %s %s%s%s\n' "$green" "$plain" "$text" "$dim" "$(last_line "$log")" "$plain"
    record step "$text" ok yes seconds "$((SECONDS - before))"
  else
    printf '  %s✗ %s%s\n' "$red" "$text" "$plain"
    sed 's/^/      /' "$log"
    record step "$text" ok no seconds "$((SECONDS - before))"
    finish
  fi
}

refused() { # refused NAME TEXT COMMAND…: the command must fail, and say by which code and check
  local name=$1 text=$2 log
  shift 2
  number=$((number + 1))
  log=$(printf '%s/steps/%02d.log' "$DEMO" "$number")
  if "$@" >"$log" 2>"$log.errors"; then
    printf '  %s✗ %s: it was NOT refused%s\n' "$red" "$text" "$plain"
    record step "$text" ok no refusal "$name"
    finish
  fi
  local code check sentence
  code=$(field code <"$log") && check=$(field check <"$log") && sentence=$(field sentence <"$log") || {
    printf '  %s✗ %s: it failed, but was not refused%s\n' "$red" "$text" "$plain"
    sed 's/^/      /' "$log" "$log.errors"
    record step "$text" ok no refusal "$name"
    finish
  }
  printf '  %s✓%s refused: %s %scode %s, check %s: %s%s\n' \
    "$green" "$plain" "$text" "$dim" "$code" "$check" "$sentence" "$plain"
  record step "$text" ok yes refusal "$name" code "$code" check "$check"
}

fact() { # fact NAME VALUE: a number or text for report.json
  python -SEc '
import json, sys
name, value = sys.argv[1:]
print(json.dumps({"fact": name, "value": int(value) if value.isdigit() and len(value) < 16 else value}))' "$@" >>"$DEMO/report.jsonl"
}

last_line() { # the most telling line of a log: the last one that is for people
  python -SEc '
import sys
lines = [line.strip() for line in open(sys.argv[1], encoding="utf-8", errors="replace") if line.strip()]
last = lines[-1] if lines else ""
print("" if last in {"}", "]", "{"} else last[:96])' "$1"
}

field() { python -SEc 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

keep() { # keep NAME COMMAND…: keep the JSON that the command prints
  local name=$1
  shift
  kept[$name]=$("$@") || return
  printf '%s\n' "${kept[$name]}"
}

keep_secret() { # the same for card data: never printed, never in a file (a test may ask for them through an open descriptor)
  shift
  CARD=$("$@") || return
  if [ -n "${KWBP_DEMO_CARD_FD:-}" ]; then printf "%s" "$CARD" >&"$KWBP_DEMO_CARD_FD"; fi
  echo "account $(of account iban)"
}

of() { printf '%s' "${kept[$1]}" | field "$2"; } # of NAME FIELD

with_card() { "$@" < <(printf "%s" "$CARD"); } # card data go to the standard input of a command, through a pipe

with_password() { # the same, with the one-time password from the holder's telephone in the place of PIN2
  "$@" < <({ printf '%s\n' "$CARD" && kwbp --json bank messages "$(printf '%s' "$CARD" | field card_id)" --wait 60; } |
    python -c '
import json, sys
text, read = sys.stdin.read(), json.JSONDecoder().raw_decode
card, end = read(text)
told, _ = read(text[end:].lstrip())
print(json.dumps(card | {"pin2": told["messages"][-1]["password"]}))')
}

as() { echo "--as $1 --passphrase-file $DEMO/secrets/$1"; } # as OFFICER: the options that say who acts

new_officer_key() {
  kwbp officer new-passphrase "$DEMO/secrets/$1"
  kwbp officer new-key "$1" --passphrase-file "$DEMO/secrets/$1" --algorithm "${2:-rsa-3072}"
}

appoint() { # appoint PERSON ROLE: sponsored by one security officer, approved by another
  step "$1 applies for the role $2" keep officer kwbp --json officer apply "$1" --name "$1" --role "$2"
  step "$1 is sponsored by a security officer" kwbp ra approve --yes "$(of officer id)" $(as security-officer-1)
  step "$1 is approved by another one" kwbp ra approve --yes "$(of officer id)" $(as security-officer-2)
  step "$1 has a certificate" kwbp officer collect "$1" "$(of officer id)"
}

enrol_merchant() { # enrol_merchant SERVER MERCHANT_ID NAME TERMINAL PORT [held]: vetted by one person, approved by another
  local server=$1 merchant=$2 name=$3 terminal=$4 port=$5
  step "$server: server configured" kwbp merchant configure "$server" --merchant-id "$merchant" --shop "$name" \
    --terminal "$terminal" --port "$port" --key "merchant-$server"
  local apply=(kwbp --json merchant apply "$server" --iban IR820540102680020817909002 --organisation "$name Co"
    --contact "orders@$server.example")
  step "$server: key asked for" keep asked "${apply[@]}"
  approve_keys "$server"
  step "$server: applied" keep "$server" "${apply[@]}"
  step "$server: the company register and its bank confirmed it" registers_confirmed "$(of "$server" id)"
  step "$server: agreement with the acquirer on file" take_evidence "$(of "$server" id)" "$name"
  if [ "${6:-}" = held ]; then
    step "$server: held by an officer who wants to know more" \
      kwbp ra hold "$(of "$server" id)" --reason "who signs for the shop?" $(as vetting-officer-1)
    step "$server: goes on where it was held" \
      kwbp ra release "$(of "$server" id)" --reason "the owner signs" $(as vetting-officer-1)
  fi
  step "$server: vetted" kwbp ra vet --yes "$(of "$server" id)" $(as vetting-officer-1)
  step "$server: approved by another person" kwbp ra approve --yes "$(of "$server" id)" $(as approving-officer-1)
  step "$server: certificates at the key and the server" kwbp merchant collect "$server" "$(of "$server" id)"
  step "$server: the gateway collects for it" kwbp gateway add-merchant "$merchant" --terminal "$terminal" --name "$name" \
    --iban IR820540102680020817909002
}

enrol_by_est() { # enrol_by_est PERSON ROLE: a machine asks with a one-time code (RFC 7030); kwbp is only with the officers
  step "$1: prepared, with a one-time code for a machine" est_code "$1" "$2"
  step "$1: openssl makes key and request, curl hands them in: officers are to decide" est_asks "$1" 202
  step "$1 is sponsored by a security officer" kwbp ra approve --yes "$(of est application)" $(as security-officer-1)
  step "$1 is approved by another one" kwbp ra approve --yes "$(of est application)" $(as security-officer-2)
  step "$1: the same request again brings the certificate, which openssl verifies" est_asks "$1" 200
}

est_code() { # est_code PERSON ROLE: the code goes into a netrc file that curl reads, and is shown to nobody
  mkdir -p "$DEMO/est"
  printf '{"person_id": "%s", "name": "%s", "organisation": "RA", "roles": ["%s"]}' "$1" "$1" "$2" >"$DEMO/est/subject.json"
  kept[est]=$(kwbp --json ra est-code --class officer --subject "$DEMO/est/subject.json")
  (umask 077 && echo "machine localhost login $(of est application) password $(of est code)" >"$DEMO/secrets/netrc")
  kept[est]=$(printf '%s' "${kept[est]}" | python -SEc 'import json, sys; print(json.dumps({k: v for k, v in json.load(sys.stdin).items() if k != "code"}))')
  kwbp officer new-passphrase "$DEMO/secrets/$1"
  (umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes-256-cbc -pass "file:$DEMO/secrets/$1" \
    -out "$KWBP_HOME/officers/$1.key" 2>/dev/null)
  openssl req -new -key "$KWBP_HOME/officers/$1.key" -passin "file:$DEMO/secrets/$1" -subj "/CN=$1" -outform DER |
    openssl base64 -out "$DEMO/est/request.b64"
  echo "case $(of est application)"
}

est_asks() { # est_asks PERSON STATUS: what EST answers, and, with the certificate, that it is of this hierarchy
  local port status=''
  port=$(python -c 'import os, tomllib; print(tomllib.load(open(os.environ["KWBP_HOME"] + "/kwbp.toml", "rb"))["ra"]["port"])')
  status=$(curl -sS --cacert "$KWBP_HOME/pki/root.pem" --netrc-file "$DEMO/secrets/netrc" -D "$DEMO/est/head" \
    -H 'Content-Type: application/pkcs10' --data-binary "@$DEMO/est/request.b64" -o "$DEMO/est/answer" -w '%{http_code}' \
    "https://localhost:$port/.well-known/est/officer/simpleenroll")
  if [ "$status" = 200 ]; then
    openssl base64 -d -in "$DEMO/est/answer" | openssl pkcs7 -inform DER -print_certs -out "$DEMO/est/$1.pem"
    openssl verify -CAfile "$KWBP_HOME/pki/root.pem" -untrusted "$KWBP_HOME/pki/cas/operations-ca.pem" \
      -untrusted "$KWBP_HOME/pki/cas/brand.pem" "$DEMO/est/$1.pem"
  fi
  echo "HTTP $status $(grep -i '^retry-after' "$DEMO/est/head" | tr -d '\r' || true)"
  [ "$status" = "$2" ]
}

told_by_mail() { # told_by_mail ADDRESS: the notice of the certificate is in the Maildir that stands in for a mail server
  python - "$KWBP_HOME/notices" "$1" <<'PY'
import pathlib, sys, time
from email import message_from_bytes, policy

folder, address = sys.argv[1:]
for _ in range(300):
    for path in sorted(pathlib.Path(folder).rglob("new/*")):
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        if mail["to"] == address and "issued" in mail["subject"]:
            print(mail["subject"], "to", mail["to"])
            sys.exit()
    time.sleep(0.1)
sys.exit(1)
PY
}

approve_keys() { # approve_keys TEXT: the keys asked for last are made when two officers have signed
  local ids
  ids=$(printf '%s' "${kept[asked]}" | python -SEc 'import json, sys; print(*json.load(sys.stdin)["requests"])')
  step "$1: approved by one officer" kwbp key approve $ids $(as security-officer-1)
  step "$1: made, with the approval of another" kwbp key approve $ids $(as security-officer-2)
}

take_evidence() { # take_evidence APPLICATION NAME: what the CPS asks of a merchant on paper, seen by the vetting officer
  local document=$DEMO/acquirer_agreement.txt
  echo "agreement of the acquirer with $2, seen by the vetting officer" >"$document"
  kwbp ra evidence add "$1" "acquirer_agreement=$document" --source "paper file" $(as vetting-officer-1)
  rm "$document"
}

registers_confirmed() { # registers_confirmed APPLICATION: they were asked when it was submitted, and what they said is on file
  kwbp --json ra checks show "$1" | python -c '
import json, sys
checks = {check["kind"]: check for check in json.load(sys.stdin)}
print(", ".join(kind + " " + (check["answer"] or check["state"]) for kind, check in checks.items()))
sys.exit(any(checks[kind]["answer"] != "confirmed" for kind in ("company_register", "iban_owner")))'
}

serve() {
  kwbp serve >"$DEMO/serve.log" 2>&1 &
  serving=$!
}

stop_serving() {
  if [ -n "$serving" ]; then
    kill "$serving" 2>/dev/null || true
    wait "$serving" 2>/dev/null || true
    serving=''
  fi
}

free_ports() { # the first of 60 free ports on loopback, below those that Linux gives to outgoing connections
  python -c '
import random, socket
while True:
    base = random.randrange(10000, 32000, 100)
    try:
        for port in range(base, base + 60):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
    except OSError:
        continue
    print(base)
    break'
}

balance_is() { # balance_is RIAL: the buyer's account
  local balance
  balance=$(kwbp --json bank balance "$(of account iban)" | field balance)
  echo "balance $balance rial"
  [ "$balance" = "$1" ]
}

settled() { # settled MERCHANT RIAL
  kwbp --json bank settle | python -c '
import json, sys
merchant, amount = sys.argv[1], int(sys.argv[2])
line = next(line for line in json.load(sys.stdin) if line["merchant"].strip() == merchant)
print("settle line:", line["merchant"].strip(), line["amount"], "rial for", line["sales"], "sale")
sys.exit(line["amount"] != amount)' "$1" "$2"
}

given_back_once() { # given_back_once RIAL: the same wish once more; one request, one movement
  [ "$(kwbp --json merchant refund bookshop "$(of purchase xid)" "$1" --wish return-1)" = "${kept[refund]}" ] || return
  kwbp --json merchant money bookshop "$(of purchase xid)" | python -SEc '
import json, sys
document = json.load(sys.stdin)
print("asked for", len(document["requests"]), "time, given back", document["standing"]["refunded"], "rial")
sys.exit((len(document["requests"]), document["standing"]["refunded"]) != (1, int(sys.argv[1])))' "$1"
}

more_than_was_paid() { # the own book refuses it, and says what is possible
  local said
  if said=$(kwbp --json merchant refund bookshop "$(of purchase xid)" "$(of purchase amount)"); then return 1; fi
  field detail <<<"$said"
  [ "$(field clause <<<"$said")" = H9 ]
}

batch_closed() { # batch_closed RIAL: what the batch comes to, in both books
  sleep 1 # what happened in this very second is in the next batch
  kwbp --json merchant batch close bookshop | python -SEc '
import json, sys
batch = json.load(sys.stdin)
print("batch", batch["batch"], batch["status"], "net", batch["net"], "rial, by the gateway", batch["gateway_net"])
sys.exit((batch["status"], batch["net"], batch["gateway_net"]) != ("closed", int(sys.argv[1]), int(sys.argv[1])))' "$1"
}

not_collected_twice() { # not_collected_twice TEXT: the stored order is sent once more; same answer, one debit
  local again sales
  again=$(kwbp --json wallet resume "$(of purchase xid)" --shop bookshop --card mehr)
  sales=$(kwbp --json bank settle | python -c 'import json, sys; print(sum(line["sales"] for line in json.load(sys.stdin)))')
  kept[debits]=$sales
  echo "$sales sale at the switch, reference $(printf '%s' "$again" | field rrn) again"
  [ "$(printf '%s' "$again" | field rrn)" = "$(of purchase rrn)" ] && [ "$sales" = 1 ]
}

serial_of() { # serial of a merchant's signing certificate
  kwbp --json ra show "$(of "$1" id)" | python -c '
import json, sys
print(next(each["serial"] for each in json.load(sys.stdin)["certificates"] if each["purpose"] == "signing"))'
}

invoice_with_another_price() { # buy through a shop front that changes the price after the token signed the invoice
  local port proxy result=0
  port=$(free_ports)
  python scripts/lib/dishonest_front.py bookshop "$port" >"$DEMO/front.log" 2>&1 &
  proxy=$!
  python -c 'import socket, sys, time
for _ in range(100):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close(); break
    except OSError:
        time.sleep(0.1)' "$port"
  with_card kwbp --json wallet buy golestan --shop "https://127.0.0.1:$port" --card mehr --yes --card-from-stdin || result=$?
  kill "$proxy"
  wait "$proxy" 2>/dev/null || true
  return $result
}

journals_whole() { kwbp audit verify; }

logs_whole() { # every log is whole; those of the services that signed or decided are signed and witnessed
  kwbp --json audit verify | tee "$DEMO/logs.json" | python -c '
import json, sys
logs = {log["log"]: log for log in json.load(sys.stdin)}
for name in ("hsm", "ca", "ra"):
    log = logs[name]
    print(name, log["entries"], "entries,", log["signed"], "signed by", log["key"], "and", log["witnessed"], "witnessed")
sys.exit(not all(log["whole"] for log in logs.values()) or any(not logs[name]["witnessed"] for name in ("hsm", "ca", "ra")))'
}

entry_proven() { # a proof file, checked where there is nothing else of this installation but its root and its witness
  kwbp audit prove 7 --log hsm --out "$DEMO/evidence/hsm-7.tlog-proof"
  KWBP_HOME="$DEMO/nowhere" kwbp audit check "$DEMO/evidence/hsm-7.tlog-proof" --root "$KWBP_HOME/pki/root.pem" \
    --witness "$(cat "$KWBP_HOME/audit/witness.vkey")"
}

finish() { # write report.json; exit 1 if a step failed
  python - "$DEMO" "$((SECONDS - started))" <<'PY'
import json, pathlib, sys

demo, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2])
lines = [json.loads(line) for line in (demo / "report.jsonl").read_text().splitlines()]
facts = {line.pop("fact"): line["value"] for line in lines if "fact" in line}
steps = [line for line in lines if "step" in line]
for line in steps:
    line["ok"] = line["ok"] == "yes"
debits = facts.pop("debits", None)
refusals = {"second-debit": {"refused": debits == 1, "debits": debits}} | {
    line["refusal"]: {"refused": line["ok"], "code": int(line["code"]) if "code" in line else None, "check": line.get("check")}
    for line in steps
    if "refusal" in line
}
good = all(line["ok"] for line in steps)
report = {"ok": good, "seconds": seconds, **facts, "refusals": refusals, "steps": steps}
(demo / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
(demo / "report.jsonl").unlink()
PY
  local good
  good=$(field ok <"$DEMO/report.json")
  if [ "$good" = True ]; then
    printf '\n%s%sAll %d steps ended as they should, in %d s.%s Report: %s\n' \
      "$green" "$bold" "$number" "$((SECONDS - started))" "$plain" "$DEMO/report.json"
    exit 0
  fi
  printf '\n%s%sThe %s failed.%s Logs: %s\n' "$red" "$bold" "${SUBJECT:-demonstration}" "$plain" "$DEMO/steps, $KWBP_HOME/log"
  exit 1
}
