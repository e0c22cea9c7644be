# Status and time as anybody may ask for them: OpenSSL against the running public service. Sourced by scripts/demo, after
# scripts/lib/steps.sh.

repository() { # base URL of the public service
  python -SEc 'import sys, tomllib; print("http://127.0.0.1:%d" % tomllib.load(open(sys.argv[1], "rb"))["repository"]["port"])' \
    "$KWBP_HOME/kwbp.toml"
}

status_by_ocsp() { # status_by_ocsp SHOP good|revoked: what the responder says of the merchant's certificate
  local pki=$KWBP_HOME/pki
  cat "$pki"/cas/*.pem >"$DEMO/cas.pem"
  openssl ocsp -issuer "$pki/cas/merchant-ca.pem" -serial "0x$(serial_of "$1")" -url "$(repository)/ocsp" \
    -CAfile "$pki/root.pem" -verify_other "$DEMO/cas.pem" >"$DEMO/ocsp.txt" 2>"$DEMO/ocsp-verify.txt" || return 1
  cat "$DEMO/ocsp-verify.txt"
  grep -q '^Response verify OK' "$DEMO/ocsp-verify.txt" || return 1
  grep ": $2\$" "$DEMO/ocsp.txt"
}

status_by_crl() { # status_by_crl SHOP good|revoked: the same on the list that its authority signed
  local pki=$KWBP_HOME/pki listed=good
  python -SEc 'import sys, urllib.request; open(sys.argv[2], "wb").write(urllib.request.urlopen(sys.argv[1], timeout=10).read())' \
    "$(repository)/crls/merchant-ca.crl" "$DEMO/merchant-ca.crl"
  openssl crl -inform DER -in "$DEMO/merchant-ca.crl" -CAfile "$pki/cas/merchant-ca.pem" -noout -verify
  openssl crl -inform DER -in "$DEMO/merchant-ca.crl" -noout -text |
    grep -iq "Serial Number: *0*$(serial_of "$1" | sed 's/^0*//')\$" && listed=revoked
  echo "$1 is $listed by CRL"
  [ "$listed" = "$2" ]
}

time_stamped() { # time_stamped FILE: OpenSSL asks for a time-stamp over it, and judges the answer
  openssl ts -query -data "$1" -sha256 -cert -out "$DEMO/query.tsq"
  python -SEc '
import sys, urllib.request
query = open(sys.argv[2], "rb").read()
asked = urllib.request.Request(sys.argv[1], query, {"Content-Type": "application/timestamp-query"})
open(sys.argv[3], "wb").write(urllib.request.urlopen(asked, timeout=10).read())' \
    "$(repository)/tsa" "$DEMO/query.tsq" "$DEMO/reply.tsr"
  openssl ts -verify -queryfile "$DEMO/query.tsq" -in "$DEMO/reply.tsr" -CAfile "$KWBP_HOME/pki/root.pem"
  openssl ts -reply -in "$DEMO/reply.tsr" -text | grep '^Time stamp'
}

no_gaps() { # no_gaps BUNDLE: its verdict rests on a time-stamp and on OCSP answers, and names nothing that is missing
  python -SEc '
import json, sys
verdict = json.load(open(sys.argv[1] + "/verdict.json"))
print("time:", verdict["time"]["at"], "by", verdict["time"]["rests_on"])
sys.exit(bool(verdict["gaps"]) or "time-stamp" not in verdict["time"]["rests_on"])' "$1"
}
