#!/usr/bin/env bash
# Style, types and format: ruff, mypy, clang-format, shell syntax. Changes nothing; says how to mend.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root" || exit 1
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
failed=()

check() {
  local name=$1
  shift
  say "$name"
  "$@" || failed+=("$name")
}

check "ruff check" "$python" -m ruff check .
check "ruff format" "$python" -m ruff format --check .
check "mypy" "$python" -m mypy
mapfile -t cpp < <(find taptrv2_core/csrc -regex '.*\.\(cpp\|h\|inl\|cu\|cuh\)' | sort)
[[ ${#cpp[@]} -eq 0 ]] || check "clang-format" "$venv/bin/clang-format" --dry-run --Werror "${cpp[@]}"
for script in tools/*.sh .ci/run; do
  bash -n "$script" || failed+=("$script")
done
if [[ ${#failed[@]} -gt 0 ]]; then
  fail "lint: ${failed[*]}. Many things mend themselves: ruff check --fix, ruff format, clang-format -i (in ${venv#"$root"/}/bin)"
fi
say "lint: no complaints"
