#!/bin/sh
# Judge the bundle of a case with OpenSSL alone: sh, openssl, sha256sum, cmp, sed, od, date (GNU). Exit code 0: every
# statement below holds. Nothing here comes from the software that made the bundle; read this file, it is short.
#
#   sh verify.sh [ROOT.pem]      with the root that you trust; without it, the bundle's own is believed
set -u
trusted=${1:+$(readlink -f "$1")}
cd "$(dirname "$0")" || exit 2
# No authority that this machine trusts counts here, nor is any read.
export SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
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
digest() { sha256sum "$1" | cut -d' ' -f1; }
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
text() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }
names() { # names A DIGEST: the content of A holds these bytes
  case $(hex "$1") in *"$2"*) return 0 ;; *) return 1 ;; esac
}
time_of() { text "$(date -u -d "@$1" +%Y%m%d%H%M%SZ)"; } # an instant as an ASN.1 GeneralizedTime has it
moment() { date -u -d "$1" +%s; }
whole() { # whole: every file is as it was exported, and there is no other
  sha256sum -c --strict --quiet digests.txt || return 1
  find . -type f ! -name digests.txt ! -path ./verify.sh | sed 's|^\./||' | sort >"$work/there"
  sed 's/^[0-9a-f]*  //' digests.txt | sort | cmp - "$work/there"
}

echo "Every file is the one that was exported"
holds "all digests" whole
[ "$bad" -eq 0 ] || {
  echo "The bundle was changed; nothing more was judged."
  exit 1
}
read -r _ CASE NOW <case.txt || exit 2
case $CASE$NOW in *[!0-9a-f]*) exit 2 ;; esac

cat chain/*.pem >"$work/chain.pem"
[ -z "$trusted" ] || holds "the root is the one that is trusted" cmp "$trusted" root.pem
[ "$bad" -eq 0 ] || exit 1

for list in crls/*.pem; do # each under the hash of its issuer's name, by which its certificates find it
  openssl crl -noout -text -in "$list" >>"$work/list-$(openssl crl -noout -hash -in "$list")"
done
revoked_before() { # revoked_before CERTIFICATE TIME: a list says that it was revoked by then
  openssl x509 -noout -serial -issuer_hash -in "$1" >"$work/named"
  { read -r serial && read -r issuer; } <"$work/named"
  [ -f "$work/list-$issuer" ] || return 1
  since=$(sed -n "/Serial Number: 0*${serial#serial=}\$/{n;s/.*Revocation Date: //p;}" "$work/list-$issuer")
  [ -n "$since" ] && [ "$(moment "$since")" -le "$2" ]
}
in_force() { # in_force CERTIFICATE TIME: it leads to the root at that time, and no list says that it was revoked by then
  openssl verify -attime "$2" -purpose any -CAfile root.pem -untrusted "$work/chain.pem" "$1" || return 1
  ! revoked_before "$1" "$2"
}
signed() { # signed FILE TIME CONTENT: signed by a certificate in force at that time; what was signed goes to CONTENT
  openssl cms -verify -binary -inform DER -in "$1" -attime "$2" -purpose any -CAfile root.pem \
    -certfile "$work/chain.pem" -signer "$work/signer.pem" -out "$3" || return 1
  ! revoked_before "$work/signer.pem" "$2"
}
who() { openssl x509 -noout -subject -nameopt RFC2253 -in "$work/signer.pem" | sed 's/^subject=//'; }
list_holds() { openssl crl -noout -verify -CAfile "$work/issuers.pem" -in "$1" 2>&1 | grep -q 'verify OK'; }

echo "The authorities and their lists"
cat root.pem chain/*.pem >"$work/issuers.pem"
for each in chain/*.pem; do holds "$(openssl x509 -noout -subject -nameopt RFC2253 -in "$each")" in_force "$each" "$NOW"; done
for each in crls/*.pem; do
  holds "list of $(openssl crl -noout -issuer -nameopt RFC2253 -in "$each") of $(openssl crl -noout -lastupdate -in "$each" | cut -d= -f2)" list_holds "$each"
done

echo "What was approved"
REVISION=$(digest revision.json)
EVIDENCE=$(digest evidence.json)
holds "the revision is of this case" grep -q "\"application_id\":\"$CASE\"" revision.json
holds "the rules are those that it was made under" grep -q "\"digest\":\"$(digest statement/pack.json)\"" revision.json
for each in requests/*.der; do
  holds "request $each" grep -q "\"sha256\":\"$(digest "$each")\"" revision.json
  holds "… proves its key" openssl req -inform DER -in "$each" -verify -noout
done
for each in evidence/*; do
  [ -f "$each" ] || continue
  holds "document $(basename "$each" | cut -c1-16)…" [ "$(digest "$each")" = "$(basename "$each")" ]
  holds "… is on file" grep -q "\"sha256\":\"$(digest "$each")\"" evidence.json
done
while read -r digest; do holds "request $(echo "$digest" | cut -c1-16)… is here" sh -c "sha256sum requests/*.der | grep -q ^$digest"; done <<END
$(sed 's/.*"csrs":\[\([^]]*\)\].*/\1/' revision.json | tr '{},' '\n\n\n' | sed -n 's/^"sha256":"\([0-9a-f]*\)"$/\1/p')
END
for digest in $(tr '{},' '\n\n\n' <evidence.json | sed -n 's/^"sha256":"\([0-9a-f]*\)"$/\1/p'); do
  holds "evidence $(echo "$digest" | cut -c1-16)… is here" [ -f "evidence/$digest" ]
done

node() { printf '\001' | cat - "$1" "$2" | openssl dgst -sha256 -binary; }
included() { # included NAME INDEX SIZE: the entry is in the tree of its checkpoint (RFC 9162 2.1.3.2)
  fn=$2 sn=$(($3 - 1)) at=1
  [ "$fn" -le "$sn" ] || return 1
  printf '\000' | cat - "$1.entry" | openssl dgst -sha256 -binary >"$work/node"
  left=$(($(wc -c <"$1.path") / 32))
  [ "$(wc -c <"$1.path")" -eq $((left * 32)) ] || return 1
  while [ "$left" -gt 0 ]; do
    [ "$sn" -gt 0 ] || return 1
    tail -c +"$at" "$1.path" | head -c 32 >"$work/side"
    if [ $((fn % 2)) -eq 1 ] || [ "$fn" -eq "$sn" ]; then
      node "$work/side" "$work/node" >"$work/next"
      while [ $((fn % 2)) -eq 0 ] && [ "$fn" -gt 0 ]; do fn=$((fn / 2)) sn=$((sn / 2)); done
    else
      node "$work/node" "$work/side" >"$work/next"
    fi
    mv "$work/next" "$work/node"
    fn=$((fn / 2)) sn=$((sn / 2)) at=$((at + 32)) left=$((left - 1))
  done
  [ "$sn" -eq 0 ] || return 1
  sed -n 3p "$1.checkpoint" | openssl base64 -d -A | cmp - "$work/node"
}
checkpoint() { # checkpoint NAME KEY SIZE: it says that size, and the key of that log signed it
  [ "$(sed -n 2p "$1.checkpoint")" = "$3" ] || return 1
  origin=$(sed -n 1p "$1.checkpoint")
  case $origin in */"$2") ;; *) return 1 ;; esac
  seen=$work/signed-$2-$(digest "$1.checkpoint") # entries that were proven together share a checkpoint
  [ ! -f "$seen" ] || return 0
  sed '/^$/,$d' "$1.checkpoint" >"$work/text"
  grep -- "^— $origin " "$1.checkpoint" | head -1 | cut -d' ' -f3 | openssl base64 -d -A | tail -c +5 >"$work/signature"
  openssl x509 -in "log/$2.pem" -pubkey -noout >"$work/key.pem"
  openssl dgst -sha256 -verify "$work/key.pem" -signature "$work/signature" "$work/text" && : >"$seen"
}
log_key() { # log_key KEY: its certificate leads to the root and names this log and nothing else
  in_force "log/$1.pem" "$NOW" || return 1
  [ "$(openssl x509 -noout -ext subjectAltName -in "log/$1.pem" | grep -o 'URI:[^, ]*')" = "URI:urn:kwbp:service:$1" ]
}
about() { # about NAME: the entry is one of this case, or of what it was certified as
  grep -q "\"$CASE\"" "$1.entry" && return 0
  for each in certificates/*.pem; do
    [ -f "$each" ] || continue
    serial=$(openssl x509 -noout -serial -in "$each" | sed 's/^serial=0*//' | tr 'A-F' 'a-f')
    grep -q "\"$serial\"" "$1.entry" && return 0
  done
  return 1
}
one_key() { # one_key PURPOSE: the certificate is for the key of the request
  openssl req -inform DER -in "requests/$1.der" -pubkey -noout >"$work/asked"
  openssl x509 -in "certificates/$1.pem" -pubkey -noout | cmp - "$work/asked"
}

echo "Who said what"
sed 1d case.txt >"$work/records"
while read -r what first second third; do
  case $what in
  signed-evidence)
    holds "document $(echo "$first" | cut -c1-16)… is signed" signed "evidence/$first" "$second" "$work/content"
    ;;
  decision)
    holds "decision $first of $(date -u -d "@$second" +'%F %R') is signed" signed "decisions/$first.p7s" "$second" "$work/content"
    say by "$(who)"
    holds "… names this case" names "$work/content" "$(text "$CASE")"
    holds "… and its time" names "$work/content" "$(time_of "$second")"
    if [ "$third" = over-this ]; then
      holds "… and exactly what was approved" names "$work/content" "$REVISION"
      holds "… and exactly this evidence" names "$work/content" "$EVIDENCE"
    else
      say note "… is over something else, and does not count"
    fi
    ;;
  certificate)
    holds "certificate for $first" in_force "certificates/$first.pem" "$second"
    holds "… is for the requested key" one_key "$first"
    ;;
  accepted)
    holds "the acceptance is signed" signed acceptance.p7s "$first" "$work/content"
    holds "… names this case" names "$work/content" "$(text "$CASE")"
    holds "… and its time" names "$work/content" "$(time_of "$first")"
    ;;
  order)
    holds "the order about $first is signed" signed "orders/$first.p7s" "$second" "$work/content"
    holds "… names the certificate" names "$work/content" "$(echo "$first" | sed 's/^\(..\)*.$/0&/')"
    ;;
  entry)
    name=log/$first-$second
    [ -f "$work/$first" ] || holds "the key of the log $first" log_key "$first"
    : >"$work/$first"
    holds "entry $second of $first is about this case" about "$name"
    holds "… is in the log" included "$name" "$second" "$third"
    holds "… whose checkpoint is signed" checkpoint "$name" "$first" "$third"
    ;;
  *) holds "record $what is known" false ;;
  esac
done <"$work/records"

states() { # states NAME FILE: the state before or after a step
  sed -n "s/.*\"$1\":\([A-Za-z_\"]*\).*/\1/p" "$2" | tr -d '"'
}
unbroken() { # every step begins in the state in which the one before ended, the first in none
  last=null
  for index in $(find log -name 'log-ra-*.entry' | sed 's/.*-\([0-9]*\)\.entry$/\1/' | sort -n); do
    [ "$(states before "log/log-ra-$index.entry")" = "$last" ] || return 1
    last=$(states after "log/log-ra-$index.entry")
  done
  [ "$last" != null ]
}

echo "Nothing was left out"
holds "each step begins where the one before it ended" unbroken
for each in decisions/*.p7s; do
  [ -f "$each" ] && holds "$each is in the log" grep -q "\"$(digest "$each")\"" log/log-ra-*.entry
done
for digest in $(sed -n 's/.*"decision_sha256":"\([0-9a-f]*\)".*/\1/p' log/log-ra-*.entry | sort -u); do
  holds "decision $(echo "$digest" | cut -c1-16)… of the log is here" sh -c "sha256sum decisions/*.p7s | grep -q ^$digest"
done
for each in certificates/*.pem; do
  [ -f "$each" ] || continue
  serial=$(openssl x509 -noout -serial -in "$each" | sed 's/^serial=0*//' | tr 'A-F' 'a-f')
  holds "$each is in the log" grep -q "/$serial\"" log/log-ra-*.entry
done

for each in statement/signed/*.p7s; do
  [ -f "$each" ] || continue
  stamp=$(openssl ts -reply -in statement/stamp.tsr -text 2>/dev/null | sed -n 's/^Time stamp: //p')
  holds "the rules were published: $each" signed "$each" "$(moment "${stamp:-@0}")" "$work/content"
  holds "… names these rules" names "$work/content" "$(digest statement/pack.json)"
done
[ -d statement/signed ] || say note "the rules came with the software: the first version is published by nobody"
[ -f acceptance.p7s ] || say note "no signed acceptance: not accepted, or by word of who opened the case (log)"

if [ $bad -eq 0 ]; then echo "The bundle holds."; else echo "The bundle does NOT hold."; fi
exit $bad
