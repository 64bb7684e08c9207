#!/usr/bin/env bash
# Installs the other tools at the versions the benchmarks name, each in an environment of its own.   benches/peers.sh [DIRECTORY]
set -euo pipefail
into=${1:-$HOME/.cache/rapidbyte-bench/peers}
mkdir -p "$into"
install() {
  local name=$1
  shift
  python3 -m venv "$into/$name"
  "$into/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
  echo "$name: $(du -sm "$into/$name" | cut -f1) MB"
}
install ingestr ingestr==1.1.15
# The last release whose package carries the real binary; newer ones fetch it at their first run.
install sling sling==1.4.11 sling-linux-amd64==1.4.11
binary=$(echo "$into"/sling/lib/python3*/site-packages/sling_linux_amd64/bin/sling-linux-amd64)
chmod +x "$binary"
ln -sf "$binary" "$into/sling/sling"
install dlt 'dlt[postgres,parquet]==1.31.0' 'sqlalchemy<2.1' psycopg2-binary
