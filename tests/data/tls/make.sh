#!/usr/bin/env bash
# Makes the certificates of this directory afresh. The authorities' keys are thrown away.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
days=36500

authority() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"
  openssl req -x509 -new -key "$work/$1.key" -days $days -subj "/CN=jitterway test $1" -out "$1.pem" \
    -addext keyUsage=critical,keyCertSign,cRLSign  # Python 3.13 and later ask for it
}

leaf() { # name, extensions
  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=jitterway test $1" -out "$work/$1.csr"
  openssl x509 -req -in "$work/$1.csr" -CA ca.pem -CAkey "$work/ca.key" -CAcreateserial -CAserial "$work/serial" \
    -days $days -extfile <(printf '%s\n' "$2") -out "$1.pem"
}

authority ca
authority other-ca
leaf server $'subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost,DNS:etcd.test\nextendedKeyUsage=serverAuth,clientAuth'
leaf client 'extendedKeyUsage=clientAuth'
