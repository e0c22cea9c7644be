#!/bin/sh
# Judge the evidence of one purchase with OpenSSL alone. Exit code 0: every statement below holds.
# Nothing here comes from the software that made the bundle; read this file, it is short.
set -u
cd "$(dirname "$0")" || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
# The purchase's number (hex) and time (seconds since 1970): both are compared with the signed messages below.
{ read -r XID && read -r WHEN; } <purchase.txt || exit 2
case $XID$WHEN in *[!0-9a-f]*) exit 2 ;; esac
bad=0

say() { printf '  %-8s %s\n' "$1" "$2"; }
holds() { # holds "statement" command...: run the command, say whether the statement holds
  statement=$1
  shift
  if "$@" >"$work/log" 2>&1; then say ok "$statement"; else
    say FAILED "$statement"
    sed 's/^/             /' "$work/log"
    bad=1
  fi
}

have() { [ -f "$1" ]; } # a buyer's own records have no auth-req and no auth-ack: those never pass through the wallet

digest() { openssl dgst -sha256 -r "$1" | cut -d' ' -f1; }
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
same() { [ "$(digest "$1")" = "$2" ]; }
names() { # names A B: the content of A holds the SHA-256 of file B
  case $(hex "$1") in *"$(digest "$2")"*) return 0 ;; *) return 1 ;; esac
}
holds_whole() { # holds_whole A B: the content of A holds file B byte for byte
  case $(hex "$1") in *"$(hex "$2")"*) return 0 ;; *) return 1 ;; esac
}
names_time() { # names_time A: the content of A holds WHEN as an ASN.1 GeneralizedTime
  case $(hex "$1") in *"$(date -u -d "@$WHEN" +%Y%m%d%H%M%SZ | tr -d '\n' | od -An -v -tx1 | tr -d ' \n')"*) return 0 ;; *) return 1 ;; esac
}
names_xid() { case $(hex "$1") in *"$XID"*) return 0 ;; *) return 1 ;; esac; }
certificate() { # certificate NAME: unrevoked and valid below the root at the time of the purchase
  openssl verify -attime "$WHEN" -crl_check_all -purpose any -CAfile "$work/trust.pem" -untrusted "$work/chain.pem" "$1"
}
signed() { # signed FILE SIGNER: FILE is signed by the holder of SIGNER; its content goes to FILE.content
  openssl cms -verify -binary -inform DER -in "$1" -attime "$WHEN" -crl_check_all -purpose any \
    -CAfile "$work/trust.pem" -signer "$work/signer.pem" -out "$work/$1.content" &&
    same "$work/signer.pem" "$(digest "$2")"
}

cat root.pem crls/*.pem >"$work/trust.pem"
cat chain/*.pem >"$work/chain.pem"

echo "Purchase $XID"
echo "Every file is the one that was exported"
while read -r expected file; do
  holds "$file" same "$file" "$expected"
done <digests.txt

echo "The certificates were valid and not revoked at the time of the purchase"
for role in buyer merchant gateway gateway-encryption; do
  holds "$role" certificate "signers/$role.pem"
done

moment() { date -u -d "$1" +%s; }
line() { sed -n "s/^[[:space:]]*$1: //p" "$2"; } # line NAME FILE: what FILE says after NAME
gap() { say missing "$1"; } # what the bundle does not prove; everything else is judged all the same
respond() { # respond ANSWER CERTIFICATE ISSUER option...: what openssl says of an OCSP answer
  answer=$1 about=$2 above=$3
  shift 3
  # It compares with the clock of today; how old the answer was at the purchase is judged below.
  openssl ocsp -respin "$answer" -issuer "$above" -cert "$about" -validity_period 2000000000 "$@"
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

if have timestamp.tsr; then
  openssl ts -reply -in timestamp.tsr -text >"$work/stamp" 2>/dev/null
  at=$(line 'Time stamp' "$work/stamp")
  stamp=$(moment "${at:-@0}")
  cat root.pem stamp-crls/*.pem >"$work/stamp-trust.pem"
  echo "A time-stamp says when this existed"
  holds "the gateway's answer existed on $at" stamped "$stamp"
  holds "it says that it is not older" [ "$stamp" -ge $((WHEN - 60)) ]
else
  gap "no time-stamp: the time is the one that the gateway signed"
fi

if [ -d ocsp ]; then
  echo "What the responders said of the certificates"
  for above in chain/*.pem; do # each under the hash of its name, by which its certificates find it
    cp "$above" "$work/above-$(openssl x509 -noout -subject_hash -in "$above")"
  done
  for certificate in signers/*.pem chain/*.pem; do
    name=$(basename "$certificate" .pem)
    above=$work/above-$(openssl x509 -noout -issuer_hash -in "$certificate")
    if have "ocsp/$name.der"; then
      holds "$name was not revoked at the purchase (OCSP)" answered "ocsp/$name.der" "$certificate" "$above"
    elif have "$above"; then # the root has no responder: what it certified is on its CRL
      gap "no OCSP answer about $name: its status is that of the CRL"
    fi
  done
else
  gap "no OCSP answers: the status of the certificates is that of the CRLs"
fi

echo "Who signed what"
holds "the merchant signed the invoice" signed invoice.p7s signers/merchant.pem
holds "the buyer signed the order" signed dual-signature.p7s signers/buyer.pem
have auth-req.p7s && holds "the merchant asked the gateway for the money" signed auth-req.p7s signers/merchant.pem
holds "the gateway signed its answer" signed auth-res.p7s signers/gateway.pem
have auth-ack.p7s && holds "the merchant acknowledged the answer" signed auth-ack.p7s signers/merchant.pem
holds "the merchant signed the receipt" signed receipt.p7s signers/merchant.pem

echo "What each signature binds"
for role in merchant gateway-encryption; do
  sed /-----/d "signers/$role.pem" | base64 -d >"$work/$role.der"
done
c=$work
holds "the invoice is for this order's lines" names "$c/invoice.p7s.content" order-details.der
holds "the invoice names the merchant's certificate" names "$c/invoice.p7s.content" "$c/merchant.der"
holds "the invoice names the gateway's certificate" names "$c/invoice.p7s.content" "$c/gateway-encryption.der"
holds "the buyer's order names the signed invoice" names "$c/dual-signature.p7s.content" invoice.p7s
holds "the buyer's order names the order information" names "$c/dual-signature.p7s.content" oi-data.der
holds "the buyer's order names the sealed card data" names "$c/dual-signature.p7s.content" pi-envelope.p7m
holds "the buyer's order names the gateway it is sealed to" names "$c/dual-signature.p7s.content" "$c/gateway-encryption.der"
have auth-req.p7s && holds "the request carries the signed invoice" holds_whole "$c/auth-req.p7s.content" invoice.p7s
have auth-req.p7s && holds "the request carries the buyer's order" holds_whole "$c/auth-req.p7s.content" dual-signature.p7s
have auth-req.p7s && holds "the request carries the sealed card data" holds_whole "$c/auth-req.p7s.content" pi-envelope.p7m
have auth-req.p7s && holds "the gateway's answer names the request" names "$c/auth-res.p7s.content" auth-req.p7s
holds "the gateway's answer names the buyer's order" names "$c/auth-res.p7s.content" dual-signature.p7s
have auth-ack.p7s && holds "the acknowledgement names the answer" names "$c/auth-ack.p7s.content" auth-res.p7s
holds "the receipt carries the answer" holds_whole "$c/receipt.p7s.content" auth-res.p7s
holds "the gateway's answer is of the time that was judged" names_time "$c/auth-res.p7s.content"
for message in invoice dual-signature auth-req auth-res auth-ack receipt; do
  have $message.p7s && holds "$message is about this purchase" names_xid "$c/$message.p7s.content"
done

if [ $bad -eq 0 ]; then echo "The evidence holds."; else echo "The evidence does NOT hold."; fi
exit $bad
