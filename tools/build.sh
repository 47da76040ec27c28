#!/usr/bin/env bash
# Builds the ROS package into ./install with colcon, unless nothing has changed since the last time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
build=$root/build/taptrv2_ros

# What install/ is made of, and how.
fingerprint() {
  sources
  printf '%s\n' "$root" "$ros" "${TAPTRV2_CUDA:-}" "${TORCH_CUDA_ARCH_LIST:-}" "$(cd -P "$venv" && pwd)"
  cat "$venv"/.installed-torch 2>/dev/null || true
}

check_tools() {
  local missing=() tool
  for tool in cmake make c++; do
    command -v $tool >/dev/null || missing+=("${tool/c++/g++}")
  done
  [[ -e $("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h ]] || missing+=(python3-dev)
  [[ ${#missing[@]} -eq 0 ]] || fail "missing for the build: ${missing[*]}. On Debian and Ubuntu: sudo apt install ${missing[*]}"
}

# A build folder of another Python or ROS, or one that was moved here, cannot be built upon.
clean_stale() {
  local cache=$build/CMakeCache.txt
  [[ -e $cache ]] || return 0
  if ! grep -qx "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache" || ! grep -qF "=$venv/bin/python" "$cache"; then
    say "build/taptrv2_ros was made another way: building from the start"
    rm -rf "$build" "$install/taptrv2_ros"
  fi
}

colcon_build() {
  local colcon=(colcon)
  export PATH=$venv/bin:$PATH
  if [[ $ros == embedded ]]; then
    colcon=("$python" -m colcon)
    source tools/embedded_ros.sh
    export CMAKE_PREFIX_PATH=$venv AMENT_PREFIX_PATH=$venv
  fi
  command -v "${colcon[0]}" >/dev/null || fail "colcon is missing: sudo apt install python3-colcon-common-extensions"
  "${colcon[@]}" build --symlink-install --base-paths . --packages-select taptrv2_ros --event-handlers console_direct- \
    --cmake-args -DCMAKE_BUILD_TYPE=Release "-DPython3_EXECUTABLE=$python" -DPython3_FIND_VIRTUALENV=ONLY
}

# Python started in this folder takes taptrv2_core from here, not from the install folder: let it find the ops too.
link_ops() {
  local library
  find taptrv2_core -name '*.so' -type l -delete
  for library in "$build"/ops/lib/taptrv2_core/ops/*.so; do
    [[ ! -e $library ]] || ln -sf "../../${library#"$root"/}" taptrv2_core/ops/
  done
}

mkdir -p "$install"
exec 9>"$install/.lock"
flock 9
new=$(fingerprint)
[[ -e $built_from && $(<"$built_from") == "$new" ]] && exit 0
check_tools
clean_stale
say "Building messages, ops and the ROS package into install/"
rm -f "$built_from"
if ! colcon_build >"$install/.output" 2>&1; then
  tail -n 25 "$install/.output" "$root"/log/latest_build/taptrv2_ros/stdout_stderr.log >&2 || true
  fail "colcon build failed; all of its output is in log/latest_build/taptrv2_ros/. If it worked before: make clean"
fi
sed -En 's/^(-- )?(taptrv2 ops: .*)/    \2/p' "$root/log/latest_build/taptrv2_ros/stdout_stderr.log"
link_ops
printf '%s' "$new" >"$built_from"
