#!/bin/sh
# Makes the secrets that compose.yaml names, each once: what is there stays. Only their owner can read them.
set -eu
umask 077
mkdir -p "$(dirname "$0")/secrets"
cd "$(dirname "$0")/secrets"

random() { # random BYTES, in hexadecimal digits
	od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}
[ -s master_key ] || { random 32; echo; } >master_key
[ -s postgres_password ] || random 24 >postgres_password
[ -s pgpass ] || printf 'postgres:5432:abaca:abaca:%s\n' "$(cat postgres_password)" >pgpass
[ -s s3_credentials ] || printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$(random 10)" "$(random 24)" >s3_credentials
echo "Keep a copy of $(pwd)/master_key elsewhere: without it no backup can be read."
