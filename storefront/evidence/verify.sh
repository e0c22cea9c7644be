#!/bin/sh
# Judge the evidence of one purchase with OpenSSL alone: verify.sh [FOLDER]
# Exit code 0: every statement below holds; 3: what is here holds, but a part of the purchase is not here; 1: something
# does not hold; 2: this is no bundle. Nothing here comes from the software that made the bundle; it is short, read it.
set -u
cd "${1:-$(dirname "$0")}" || exit 2
# No authority that this machine trusts counts here, nor is any read.
export SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
# The purchase's number (hex) and time (seconds since 1970): both are compared with the signed messages below.
{ read -r XID && read -r WHEN; } <purchase.txt || exit 2
case $XID$WHEN in *[!0-9a-f]*) exit 2 ;; esac
case $WHEN in *[!0-9]*) exit 2 ;; esac
[ -f verdict.json ] || exit 2
if [ -f status.txt ]; then
  read -r TOLD <status.txt || exit 2
  case $TOLD in '' | *[!0-9]*) exit 2 ;; esac
fi
STATEMENTS='time offer goods order payment contract request answer acknowledgement receipt status money'
ROLES='2.25.189821692.3' # certificate policies: .1 cardholders, .2 merchants, .3 gateways
about=''                 # the statement, or statements, that the next checks are about

say() { printf '  %-8s %s\n' "$1" "$2"; }
broken() { for one in "$@"; do : >"$work/broken.$one"; done; }
holds() { # holds "what" command...: run the command, say whether it holds
  what=$1
  shift
  if "$@" >"$work/log" 2>&1; then say ok "$what"; else
    say FAILED "$what"
    sed 's/^/             /' "$work/log"
    # shellcheck disable=SC2086
    broken bundle $about
  fi
}
gap() { say missing "$1"; } # what the bundle does not prove; everything else is judged all the same
have() { [ -f "$1" ]; }     # a buyer's own records have no auth-req, a gateway's no order lines, and so on

openssl dgst -sha256 -r $(find . -type f | grep '^\./[A-Za-z0-9./_-]*$' | sed 's/^..//') >"$work/digests" 2>"$work/log"
line_end='
'
DIGESTS=$line_end$(cat "$work/digests")$line_end # "digest *file", one a line
digest() { # of a file of the bundle, or of one made here
  case $1 in
    /*) openssl dgst -sha256 -r "$1" | cut -d' ' -f1 ;;
    *)
      before=${DIGESTS%%" *$1$line_end"*}
      if [ "$before" != "$DIGESTS" ]; then echo "${before##*"$line_end"}"; fi
      ;;
  esac
}
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
same() { [ -n "$2" ] && [ "$(digest "$1")" = "$2" ]; }
exported() { case $DIGESTS in *"$line_end$2 *$1$line_end"*) return 0 ;; *) return 1 ;; esac; }
at_time() { date -u -d "@$1" +%Y%m%d%H%M%SZ; }

# The fields of a DER structure, one a line: depth, type, value. Each must begin where the one before it ended, so that
# no text inside can pass for a field.
walk() {
  openssl asn1parse -inform DER -in "$1" | awk '
    BEGIN { next_one = 0 }
    !/^ *[0-9]+:d=[0-9]+ +hl=[0-9]+ +l= *[0-9]+ (prim|cons): / { next } # the rest of a text of several lines
    {
      split($0, at, ":"); rest = substr($0, length(at[1]) + 2)
      if (at[1] + 0 != next_one) { print "0 BROKEN"; exit }
      depth = rest; sub(/^d=/, "", depth); sub(/ .*/, "", depth)
      head = rest; sub(/^.*hl=/, "", head); sub(/ .*/, "", head)
      size = rest; sub(/^[^l]*hl=[0-9]+ +l= */, "", size); sub(/ .*/, "", size)
      kind = rest; sub(/^.*(prim|cons): +/, "", kind); sub(/ *:.*/, "", kind); sub(/ +\[HEX DUMP\]$/, "", kind)
      value = rest; sub(/^[^:]*: [^:]*:?/, "", value)
      gsub(/ +$/, "", kind); gsub(/ /, "_", kind)
      print depth, kind, value
      next_one = at[1] + head + (rest ~ /prim: / ? size : 0)
    }'
}
fields() { # fields FILE awk-argument...: awk over its fields, which are walked once
  listing=$work/${1##*/}.fields
  have "$listing" || walk "$1" >"$listing"
  shift
  awk "$@" "$listing"
}
field() { # field FILE DEPTH TYPE NUMBER: the value of the so-manieth field of a type
  fields "$1" -v d="$2" -v t="$3" -v n="$4" '
    $2 == "BROKEN" { print "BROKEN"; exit }
    $1 == d && $2 == t && ++seen == n { sub(/^[^ ]+ [^ ]+ ?/, ""); print; exit }'
}
octets() { # octets FILE NUMBER: in hexadecimal
  fields "$1" -v n="$2" '
    $2 == "BROKEN" { print "BROKEN"; exit }
    $1 == 1 && $2 == "OCTET_STRING" && ++seen == n { sub(/^[^ ]+ [^ ]+ ?/, ""); print tolower($0); exit }'
}
is() { [ -n "$1" ] && [ "$1" = "$2" ]; }
money() { # of all but order lines
  fields "$1" '
    $2 == "BROKEN" { while (seen < 3) part[++seen] = "BROKEN"; exit }
    $1 == 2 && $2 == "INTEGER" { sub(/^[^ ]+ [^ ]+ ?/, ""); part[++seen] = $0; if (seen == 3) exit }
    END { print part[1], part[2], part[3] }'
}
identity() { # identity CERTIFICATE KIND: the id after urn:kwbp:KIND: in it
  openssl x509 -noout -ext subjectAltName -in "$1" | tr ', ' '\n\n' | sed -n "s/^URI:urn:kwbp:$2://p"
}

certificate() { # certificate FILE [option...]: unrevoked and valid below the root at the time of the purchase
  one=$1
  shift
  openssl verify -attime "$WHEN" -crl_check_all -purpose any -CAfile "$work/trust.pem" -untrusted "$work/chain.pem" \
    "$@" "$one"
}
role() { # role FILE NUMBER USAGE: issued for this role by authorities for this role
  certificate "$1" -policy "$ROLES.$2" -policy_check -explicit_policy &&
    openssl x509 -noout -ext keyUsage -in "$1" | grep -qx " *$3"
}
SIGNS='Digital Signature, Non Repudiation'
read_content() { # read_content FILE: what it says, whoever signed it, to FILE.content
  : >"$work/$1.content"
  openssl cms -verify -binary -inform DER -in "$1" -noverify -nosigs -no_attr_verify -no_content_verify \
    -out "$work/$1.content" 2>"$work/log"
}
signed() { # signed FILE SIGNER [TIME] [TRUST]: FILE is signed by the holder of SIGNER
  openssl cms -verify -binary -inform DER -in "$1" -attime "${3:-$WHEN}" -crl_check_all -purpose any \
    -CAfile "${4:-$work/trust.pem}" -signer "$work/signer.pem" -out "$work/signed" &&
    same "$work/signer.pem" "$(digest "$2")"
}

cat root.pem crls/*.pem >"$work/trust.pem"
cat chain/*.pem >"$work/chain.pem"

echo "Purchase $XID"
echo "Every file is the one that was exported"
# shellcheck disable=SC2086
about=$STATEMENTS
listed() { # nothing but plain files, each in digests.txt once, and none missing
  [ -z "$(find . ! -type f ! -type d)" ] || return 1
  [ -z "$(find . -type f | grep -v '^\./[A-Za-z0-9./_-]*$')" ] || return 1
  find . -type f ! -path ./digests.txt ! -path ./verify.sh | sed 's/^..//' | LC_ALL=C sort >"$work/found"
  cut -d' ' -f2- digests.txt | LC_ALL=C sort | cmp -s - "$work/found" || return 1
  for one in chain/*.pem ocsp/*.der; do # each name is of one certificate
    name=${one##*/}
    name=${name%.*}
    case $one in
      chain/*) [ ! -e "signers/$name.pem" ] || return 1 ;;
      *) [ ! -e "$one" ] || [ -e "signers/$name.pem" ] || [ -e "chain/$name.pem" ] || return 1 ;;
    esac
  done
}
holds "digests.txt names each file" listed
while read -r expected file; do
  holds "$file" exported "$file" "$expected"
done <digests.txt

echo "The certificates were valid and not revoked at the time of the purchase"
about='order payment contract'
holds buyer certificate signers/buyer.pem
holds "the buyer's is a cardholder's" role signers/buyer.pem 1 "$SIGNS"
about='offer goods contract request acknowledgement receipt'
holds merchant certificate signers/merchant.pem
holds "the merchant's is a merchant's" role signers/merchant.pem 2 "$SIGNS"
if have signers/gateway.pem; then
  about='answer receipt'
  holds gateway certificate signers/gateway.pem
  holds "the gateway's is a gateway's, for signatures" role signers/gateway.pem 3 "$SIGNS"
fi
about=payment
holds gateway-encryption certificate signers/gateway-encryption.pem
holds "the gateway's other one is a gateway's, to seal to" role signers/gateway-encryption.pem 3 'Key Encipherment'

moment() { date -u -d "$1" +%s; }
line() { sed -n "s/^[[:space:]]*$1: //p" "$2"; } # line NAME FILE: what FILE says after NAME
respond() { # respond ANSWER CERTIFICATE ISSUER option...: what openssl says of an OCSP answer
  answer=$1 one=$2 above=$3
  shift 3
  # It compares with the clock of today; how old the answer was at the purchase is judged below.
  openssl ocsp -respin "$answer" -issuer "$above" -cert "$one" -validity_period 2000000000 "$@"
}
answered() { # answered ANSWER CERTIFICATE ISSUER: its responder said that it was not revoked at the purchase
  respond "$1" "$2" "$3" -noverify >"$work/status" 2>&1 || return 1
  cat "$work/status"
  [ "$(moment "$(line 'Next Update' "$work/status")")" -ge "$WHEN" ] || return 1
  judged=$(moment "$(line 'This Update' "$work/status")") # an answer of before is judged as of the purchase
  if [ "$judged" -lt "$WHEN" ]; then judged=$WHEN; fi
  respond "$1" "$2" "$3" -CAfile root.pem -verify_other "$work/chain.pem" -attime "$judged" >"$work/again" 2>&1
  cat "$work/again"
  grep -q '^Response verify OK' "$work/again" || return 1
  grep -q "^$2: good\$" "$work/again" && return 0
  grep -q "^$2: revoked\$" "$work/again" && [ "$(moment "$(line 'Revocation Time' "$work/again")")" -gt "$WHEN" ]
}
stamped() { # stamped TIME: the time-stamp is over the gateway's answer, by an authority in good standing then
  openssl ts -verify -in timestamp.tsr -data auth-res.p7s -attime "$1" -crl_check_all \
    -CAfile "$work/stamp-trust.pem" -untrusted "$work/chain.pem"
}

about=time
if have timestamp.tsr; then
  openssl ts -reply -in timestamp.tsr -text >"$work/stamp" 2>/dev/null
  at=$(line 'Time stamp' "$work/stamp")
  stamp=$(moment "${at:-@0}")
  cat root.pem stamp-crls/*.pem >"$work/stamp-trust.pem"
  echo "A time-stamp says when this existed"
  holds "the gateway's answer existed on $at" stamped "$stamp"
  holds "it says that it is not older" [ "$stamp" -ge $((WHEN - 60)) ]
elif have auth-res.p7s; then
  gap "no time-stamp: the time is the one that the gateway signed"
else
  gap "no time-stamp: the time is the one that the buyer signed"
fi

concerned() { # concerned NAME: the statements that rest on a certificate; on an authority's, all
  case $1 in
    buyer) echo order payment contract ;;
    merchant) echo offer goods contract request acknowledgement receipt ;;
    gateway) echo answer receipt ;;
    gateway-encryption) echo payment ;;
    gateway-status) echo status ;;
    *) echo "$STATEMENTS" ;;
  esac
}
if [ -d ocsp ]; then
  echo "What the responders said of the certificates"
  for above in chain/*.pem; do # each under the hash of its name, by which its certificates find it
    cp "$above" "$work/above-$(openssl x509 -noout -subject_hash -in "$above")"
  done
  for certificate in signers/*.pem chain/*.pem; do
    name=${certificate##*/}
    name=${name%.pem}
    above=$work/above-$(openssl x509 -noout -issuer_hash -in "$certificate")
    about=$(concerned "$name")
    if have "ocsp/$name.der"; then
      holds "$name was not revoked at the purchase (OCSP)" answered "ocsp/$name.der" "$certificate" "$above"
    elif have "$above"; then # the root has no responder: what it certified is on its CRL
      gap "no OCSP answer about $name: its status is that of the CRL"
    fi
  done
else
  gap "no OCSP answers: the status of the certificates is that of the CRLs"
fi

for role in merchant gateway-encryption; do
  sed /-----/d "signers/$role.pem" | base64 -d >"$work/$role.der"
done
c=$work invoice=$work/invoice.p7s.content order=$work/dual-signature.p7s.content answer=$work/auth-res.p7s.content
request=$work/auth-req.p7s.content ack=$work/auth-ack.p7s.content receipt=$work/receipt.p7s.content
status=$work/gateway-status.p7s.content
for message in *.p7s; do read_content "$message"; done
of_this_purchase() { is "$(octets "$1" "$2")" "$XID"; }

echo "What the merchant offered"
about='offer goods'
holds "the merchant signed the invoice" signed invoice.p7s signers/merchant.pem
holds "invoice is about this purchase" of_this_purchase "$invoice" 2
holds "the invoice names the merchant's certificate" is "$(octets "$invoice" 5)" "$(digest "$c/merchant.der")"
holds "the invoice names the merchant" is "$(identity signers/merchant.pem merchant)" \
  "$(fields "$invoice" '$1 == 1 && $2 == "UTF8STRING" { print $3 }' | sed -n 2p)"
about=goods
adds_up() { # quantity, price and amount of each line, and their sum
  sum=0 number=1
  while quantity=$(field order-details.der 3 INTEGER $number) && [ -n "$quantity" ]; do
    price=$(field order-details.der 3 INTEGER $((number + 1)))
    amount=$(field order-details.der 3 INTEGER $((number + 2)))
    case $quantity$price$amount in *[!0-9A-F]*) return 1 ;; esac
    [ $((0x$quantity * 0x$price)) -eq $((0x$amount)) ] || return 1
    sum=$((sum + 0x$amount)) number=$((number + 3))
  done
  [ "$(money order-details.der)" = "$(money "$invoice")" ] && [ $sum -eq $((0x$(field "$invoice" 2 INTEGER 2))) ]
}
if have order-details.der; then
  holds "the invoice is for this order's lines" is "$(octets "$invoice" 7)" "$(digest order-details.der)"
  holds "the lines add up to its amount" adds_up
fi

echo "What the buyer ordered"
about='order payment'
holds "the buyer signed the order" signed dual-signature.p7s signers/buyer.pem
holds "dual-signature is about this purchase" of_this_purchase "$order" 3
holds "the buyer's order names the signed invoice" is "$(octets "$order" 6)" "$(digest invoice.p7s)"
holds "the buyer's order names the merchant's certificate" is "$(octets "$order" 4)" "$(digest "$c/merchant.der")"
holds "the buyer's order is for the amount of the invoice" is "$(money "$order")" "$(money "$invoice")"
if have oi-data.der; then
  holds "the buyer's order names the order information" is "$(octets "$order" 2)" "$(digest oi-data.der)"
  holds "the order information is about this purchase" of_this_purchase oi-data.der 1
  holds "the order information names the signed invoice" is "$(octets oi-data.der 5)" "$(digest invoice.p7s)"
  holds "the order information names the order's lines" is "$(octets oi-data.der 6)" "$(octets "$invoice" 7)"
  holds "the order information has the amount of the invoice" is "$(money oi-data.der)" "$(money "$invoice")"
fi
about=payment
sealed_to() { # the envelope's recipient is the certificate with this serial number
  serial=$(openssl x509 -noout -serial -in signers/gateway-encryption.pem) &&
    walk pi-envelope.p7m | grep -qx "6 INTEGER ${serial#serial=}"
}
ours=$(digest "$c/gateway-encryption.der")
holds "the invoice names the gateway's certificate" is "$(octets "$invoice" 6)" "$ours"
holds "the buyer's order names the gateway it is sealed to" is "$(octets "$order" 5)" "$ours"
gateways_own() { # only a gateway has no sealed card data, and a gateway has nothing of these
  for one in oi-data.der order-details.der auth-req.p7s receipt.p7s contract.p7s; do ! have "$one" || return 1; done
}
if have pi-envelope.p7m || ! gateways_own; then
  holds "the buyer's order names the sealed card data" is "$(octets "$order" 7)" "$(digest pi-envelope.p7m)"
  holds "the card data are sealed to that gateway" sealed_to
else gap "the sealed card data: the buyer's order names them by their hash alone"; fi
gateway_id=$(fields "$invoice" '$1 == 1 && $2 == "UTF8STRING" { print $3 }' | sed -n 4p)
holds "that gateway is the one of the invoice" is "$(identity signers/gateway-encryption.pem gateway)" "$gateway_id"

if have contract.p7s; then
  about=contract
  echo "What both of them signed: one file"
  joint=$work/contract.p7s.content
  both_signed() { # openssl wants every signature good; the signers are these two, and nobody else
    openssl cms -verify -binary -inform DER -in contract.p7s -attime "$WHEN" -crl_check_all -purpose any \
      -CAfile "$work/trust.pem" -signer "$work/two.pem" -out "$work/signed" || return 1
    cat signers/merchant.pem signers/buyer.pem >"$work/one-way.pem"
    cat signers/buyer.pem signers/merchant.pem >"$work/other-way.pem"
    cmp -s "$work/two.pem" "$work/one-way.pem" || cmp -s "$work/two.pem" "$work/other-way.pem"
  }
  link() { # the signed attribute dualLink: serial number of who signed it, and its three hashes
    fields contract.p7s '
      linked && $2 == "OCTET_STRING" { print tolower($3); linked-- }
      $1 == 6 && $2 == "INTEGER" { serial = $3 }
      $1 == 7 && $2 == "OBJECT" && $3 == "2.25.189821692.2.1" { print serial; linked = 3 }' | tr '\n' ' '
  }
  ties() {
    serial=$(openssl x509 -noout -serial -in signers/buyer.pem)
    is "$(link)" "${serial#serial=} $(octets "$order" 1) $(octets "$order" 2) $(octets "$order" 7) "
  }
  # Each signed the four attributes of the profile, once, one of them the link as well, and both as an invoice; what
  # else anybody could have signed, or added, is not there.
  FOUR='contentType id-smime-aa-signingCertificateV2 messageDigest signingTime'
  in_form() {
    is "$(field contract.p7s 4 OBJECT 1)" 2.25.189821692.1.1 && is "$(fields contract.p7s '
      $2 == "BROKEN" { print }
      $1 == 3 && $2 == "SET" { sets++ }
      sets == 2 && $1 == 4 { signer++ }
      sets == 2 && $1 == 5 { added = ($2 == "cont_[_1_]") }
      sets == 2 && $1 == 7 && $2 == "OBJECT" && !(added && $3 == "id-smime-aa-timeStampToken") {
        if ($3 == "2.25.189821692.2.1" && !added) print "link"; else print signer added, $3
      }' | LC_ALL=C sort | tr '\n' ' ')" "$(printf '10 %s ' $FOUR)$(printf '20 %s ' $FOUR)link "
  }
  same_invoice() { [ -s "$joint" ] && cmp -s "$joint" "$invoice"; }
  holds "merchant and buyer signed it, and nobody else" both_signed
  holds "each signed what belongs to it, and nothing else" in_form
  holds "they signed the invoice" same_invoice
  holds "the buyer's part names this order, and no other" ties
fi

if have auth-req.p7s; then
  about=request
  echo "What the merchant asked of the gateway"
  holds "the merchant asked the gateway for the money" signed auth-req.p7s signers/merchant.pem
  holds "auth-req is about this purchase" of_this_purchase "$request" 2
  holds "the request carries the signed invoice" is "$(octets "$request" 5)" "$(hex invoice.p7s)"
  holds "the request carries the buyer's order" is "$(octets "$request" 6)" "$(hex dual-signature.p7s)"
  holds "the request carries the sealed card data" is "$(octets "$request" 7)" "$(hex pi-envelope.p7m)"
  holds "the request names the order information" is "$(octets "$request" 3)" "$(octets "$order" 2)"
  holds "the request names the order's lines" is "$(octets "$request" 4)" "$(octets "$invoice" 7)"
  holds "the request is for the amount of the invoice" is "$(money "$request")" "$(money "$invoice")"
fi

names_time() { # names_time FILE SECONDS: the first time in FILE
  is "$(field "$1" 1 GENERALIZEDTIME 1)" "$(at_time "$2")"
}
if have auth-res.p7s; then
  about='answer receipt'
  echo "What the gateway answered"
  holds "the gateway signed its answer" signed auth-res.p7s signers/gateway.pem
  holds "auth-res is about this purchase" of_this_purchase "$answer" 2
  holds "the gateway's answer is of the time that was judged" names_time "$answer" "$WHEN"
  holds "the answer is by the gateway that the buyer chose" is "$(identity signers/gateway.pem gateway)" "$gateway_id"
  holds "the answer has the invoice's challenge" is "$(octets "$answer" 3)" "$(octets "$invoice" 3)"
  holds "the answer names the merchant's certificate" is "$(octets "$answer" 4)" "$(digest "$c/merchant.der")"
  holds "the gateway's answer names the buyer's order" is "$(octets "$answer" 6)" "$(digest dual-signature.p7s)"
  holds "the answer is about the amount that the buyer signed" is "$(money "$answer")" "$(money "$order")"
  have auth-req.p7s &&
    holds "the gateway's answer names the request" is "$(octets "$answer" 5)" "$(digest auth-req.p7s)"
  code=$(field "$answer" 1 INTEGER 2)
  if [ "$code" = 00 ]; then say said "approved"; else say said "not approved (authCode 0x$code)"; fi
else
  about=order
  names_order_time() { names_time oi-data.der "$WHEN"; }
  holds "the order is of the time that was judged" names_order_time
fi

if have auth-ack.p7s; then
  about=acknowledgement
  holds "the merchant acknowledged the answer" signed auth-ack.p7s signers/merchant.pem
  holds "auth-ack is about this purchase" of_this_purchase "$ack" 2
  holds "the acknowledgement names the answer" is "$(octets "$ack" 3)" "$(digest auth-res.p7s)"
fi

claims_no_more() { # only what was approved is performed, and confirmed; what is open is neither done nor rejected
  case $(field "$receipt" 1 INTEGER 2)/$(field "$receipt" 1 BOOLEAN 1)/$code in
    04/255/00 | 05/255/00 | 02/0/03 | 02/0/09) return 0 ;;
    0[45]/* | */255/* | */03 | */09) return 1 ;;
    *) return 0 ;;
  esac
}
if have receipt.p7s; then
  about=receipt
  echo "What the merchant told the buyer"
  holds "the merchant signed the receipt" signed receipt.p7s signers/merchant.pem
  holds "receipt is about this purchase" of_this_purchase "$receipt" 2
  holds "the receipt has the invoice's challenge" is "$(octets "$receipt" 3)" "$(octets "$invoice" 3)"
  holds "the receipt names the order information" is "$(octets "$receipt" 4)" "$(octets "$order" 2)"
  if have auth-res.p7s; then
    holds "the receipt carries the answer" is "$(octets "$receipt" 5)" "$(hex auth-res.p7s)"
    holds "the receipt claims no more than the answer" claims_no_more
  else
    holds "the receipt's answer is here" false
  fi
fi
if have receipt-ack.p7s; then
  about=receipt
  holds "the acknowledged receipt is here" have receipt.p7s
  holds "the buyer acknowledged the receipt" signed receipt-ack.p7s signers/buyer.pem
  holds "receipt-ack is about this purchase" of_this_purchase "$work/receipt-ack.p7s.content" 2
  holds "it names the receipt" is "$(octets "$work/receipt-ack.p7s.content" 3)" "$(digest receipt.p7s)"
fi

coherent() { # given back is only what was approved or left open; concluded, what was not left open
  case $(field "$status" 1 INTEGER 2)/$code in
    00/* | */) return 1 ;;
    01/03 | 01/09) return 1 ;;
    01/* | 0[234]/00 | 0[234]/03 | 0[234]/09) return 0 ;;
    *) return 1 ;;
  esac
}
if have gateway-status.p7s; then
  about=status
  echo "What the gateway said later"
  cat root.pem status-crls/*.pem >"$work/status-trust.pem"
  later() { signed gateway-status.p7s signers/gateway-status.pem "$TOLD" "$work/status-trust.pem"; }
  later_role() {
    openssl verify -attime "$TOLD" -crl_check_all -purpose any -CAfile "$work/status-trust.pem" \
      -untrusted "$work/chain.pem" -policy "$ROLES.3" -policy_check -explicit_policy signers/gateway-status.pem &&
      openssl x509 -noout -ext keyUsage -in signers/gateway-status.pem | grep -qx " *$SIGNS"
  }
  holds "the gateway signed where the purchase stands" later
  holds "with a certificate of a gateway" later_role
  holds "it is the gateway that the buyer chose" is "$(identity signers/gateway-status.pem gateway)" "$gateway_id"
  holds "gateway-status is about this purchase" of_this_purchase "$status" 2
  holds "it is of the time that was judged" names_time "$status" "$TOLD"
  if have auth-res.p7s; then
    repeats() { case $(hex "$status") in *"$(hex auth-res.p7s)"*) return 0 ;; *) return 1 ;; esac; }
    holds "it repeats the answer" repeats
    holds "it agrees with the answer" coherent
  fi
  say said "status 0x$(field "$status" 1 INTEGER 2) (1 concluded, 2 being given back, 3 given back, 4 unsettled)"
fi

moved() { # moved FOLDER TRUST TIME FILE SIGNER-ROLE KIND ID: signed at TIME by that merchant or gateway
  openssl cms -verify -binary -inform DER -in "$1/$4" -attime "$3" -crl_check_all -purpose any -CAfile "$2" \
    -signer "$work/mover.pem" -out "$work/signed" &&
    openssl verify -attime "$3" -crl_check_all -purpose any -CAfile "$2" -untrusted "$work/chain.pem" \
      -policy "$ROLES.$5" -policy_check -explicit_policy "$work/mover.pem" &&
    openssl x509 -noout -ext keyUsage -in "$work/mover.pem" | grep -qx " *$SIGNS" &&
    is "$(identity "$work/mover.pem" "$6")" "$7"
}
kind() { field "$1" 4 OBJECT 1; } # what the message says that it is
answers_to() { # each request has the answer of its own kind
  case "$(kind "$1/request.p7s") $(kind "$1/answer.p7s")" in
    *.1.46\ *.1.47 | *.1.48\ *.1.49 | *.1.50\ *.1.51 | *.1.52\ *.1.53 | *.1.54\ *.1.55) return 0 ;;
    *) return 1 ;;
  esac
}
known() { case " $follows " in *" $1 "*) [ -n "$1" ] ;; *) return 1 ;; esac; }
if [ -d money-01 ]; then
  about=money
  echo "What moved the money later"
  follows=$(have auth-res.p7s && digest auth-res.p7s)
  merchant_id=$(identity signers/merchant.pem merchant)
  for pair in money-*; do
    read -r AT <"$pair/time.txt" || exit 2
    case $AT in '' | *[!0-9]*) exit 2 ;; esac
    cat root.pem "$pair"/*.pem >"$work/money-trust.pem"
    asked=$work/asked told=$work/told
    for message in request:$asked answer:$told; do
      : >"${message#*:}"
      openssl cms -verify -binary -inform DER -in "$pair/${message%:*}.p7s" -noverify -nosigs -no_attr_verify \
        -no_content_verify -out "${message#*:}" 2>"$work/log"
      rm -f "$work/${message%:*}.p7s.fields" "${message#*:}.fields"
    done
    holds "$pair: the merchant asked" moved "$pair" "$work/money-trust.pem" "$AT" request.p7s 2 merchant "$merchant_id"
    holds "$pair: the gateway answered" moved "$pair" "$work/money-trust.pem" "$AT" answer.p7s 3 gateway "$gateway_id"
    holds "$pair: the answer is of the request's kind" answers_to "$pair"
    holds "$pair: the request is about this purchase" of_this_purchase "$asked" 2
    holds "$pair: the answer is about this purchase" of_this_purchase "$told" 2
    holds "$pair: the answer names the request" is "$(octets "$told" 3)" "$(digest "$pair/request.p7s")"
    holds "$pair: the answer is about the amount that was asked for" is "$(money "$told")" "$(money "$asked")"
    holds "$pair: it is of the time that was judged" names_time "$told" "$AT"
    holds "$pair: the request names an answer before it" known "$(octets "$asked" 3)"
    follows="$follows $(digest "$pair/answer.p7s")"
    say said "$(kind "$pair/request.p7s") of 0x$(field "$asked" 2 INTEGER 2) rial: authCode 0x$(field "$told" 1 INTEGER 2)"
  done
fi

# One thing rests on another: without the order no payment, without the offer no goods.
for pair in offer:goods order:payment answer:receipt answer:acknowledgement answer:money; do
  if [ -e "$work/broken.${pair%:*}" ]; then broken "${pair#*:}"; fi
done
echo "Statements"
whole=yes
there() { # there STATEMENT: whether the bundle has what it is about
  case $1 in
    time) have timestamp.tsr ;;
    goods) have order-details.der ;;
    contract) have contract.p7s ;;
    request) have auth-req.p7s ;;
    answer) have auth-res.p7s ;;
    acknowledgement) have auth-ack.p7s ;;
    receipt) have receipt.p7s ;;
    status) have gateway-status.p7s ;;
    money) [ -d money-01 ] ;;
  esac
}
for statement in $STATEMENTS; do
  if ! there "$statement"; then
    say absent "$statement"
    case $statement in goods | answer | receipt) whole=no ;; esac
  elif [ -e "$work/broken.$statement" ]; then say broken "$statement"; else say proven "$statement"; fi
done

if [ -e "$work/broken.bundle" ]; then
  echo "The evidence does NOT hold."
  exit 1
elif [ $whole = no ]; then
  echo "What is here holds; the purchase is not here from end to end."
  exit 3
fi
echo "The evidence holds."
