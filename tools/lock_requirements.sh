#!/usr/bin/env bash
# Pins everything that requirements/*.in ask for anew, together, into requirements/*.txt. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../requirements"
lock() { uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate "$@"; }
all=$(mktemp)
trap 'rm -f "$all"' EXIT
lock runtime.in ros.in dev.in --output-file "$all"
for name in runtime ros dev; do
  {
    echo "# Every package, pinned, for Python 3.10 to 3.14: made from $name.in by tools/lock_requirements.sh."
    lock "$name.in" --constraints "$all" | grep -vE "win32|os_name == 'nt'"
  } >"$name.new"
  mv "$name.new" "$name.txt"
done
