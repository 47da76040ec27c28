#!/usr/bin/env bash
# Makes the virtual environment: tools/environment.sh [dev]. What is there already is kept.
#   PYTHON=python3.12   the interpreter to use (default: python3)
# pip's own settings (pip config, PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL, ...) decide where packages come from.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
log=$venv/install.log
export PIP_DISABLE_PIP_VERSION_CHECK=1 _ROS_WHEELS_BOOTSTRAP_COMPLETE=1

check_python() {
  local version machine
  [[ ${ROS_VERSION:-2} == 2 ]] || fail "ROS 1 ($ROS_DISTRO) is sourced, but this is for ROS 2. Open a shell without it."
  command -v "$PYTHON" >/dev/null || fail "no '$PYTHON' here. Install Python 3.10 to 3.14 (sudo apt install python3 python3-venv python3-dev), or name yours: make PYTHON=/path/to/python"
  version=$("$PYTHON" -c 'import sys; print(*sys.version_info[:2], sep=".")')
  machine=$(uname -m)
  [[ $version =~ ^3\.1[0-4]$ ]] || fail "$PYTHON is Python $version, but 3.10 to 3.14 is needed. Name another one: make PYTHON=python3.12"
  if [[ $ros == embedded && $machine != x86_64 ]]; then
    fail "no ROS is sourced, and ROS 2 wheels exist for x86_64 only, not for $machine. Install ROS 2 and source its setup.bash first."
  fi
}

make_venv() {
  local options=()
  if [[ -e $venv/.made-in && $(<"$venv/.made-in") != "$venv" ]] || { [[ -e $venv ]] && ! "$python" -c '' 2>/dev/null; }; then
    say "$venv was moved or its Python is gone: making it again"
    rm -rf "$venv"
  fi
  if [[ ! -e $venv ]]; then
    check_python
    say "Making a virtual environment in ${venv#"$root"/}"
    [[ $ros == embedded ]] || options+=(--system-site-packages)
    if ! "$PYTHON" -m venv "${options[@]}" "$venv" >/dev/null 2>&1; then
      rm -rf "$venv"
      fail "$PYTHON cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv"
    fi
  fi
  [[ -e $venv/.made-in ]] || printf '%s' "$venv" >"$venv/.made-in"
  touch "$venv/COLCON_IGNORE"
}

# install_group NAME WHAT: installs requirements/NAME.txt unless that very file was installed before.
install_group() {
  local file=$root/requirements/$1.txt stamp=$venv/.installed-$1
  [[ -e $stamp ]] && cmp -s "$stamp" "$file" && return
  say "Installing $2"
  if ! "$python" -m pip install --requirement "$file" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    fail "pip could not install requirements/$1.txt; everything it said is in $log"
  fi
  if [[ $1 == ros ]]; then
    "$python" "$root/tools/mend_ros_wheels.py" || fail "the ROS wheels' CMake files could not be mended"
  fi
  install -m 644 "$file" "$stamp"
}

# Beside an installed ROS a torch that is there already stays (a Jetson has one of its own).
install_torch() {
  if [[ $ros != embedded ]] && "$python" -c 'import torch; v = torch.__version__.split("."); assert (int(v[0]), int(v[1])) >= (2, 4)' 2>/dev/null; then
    return
  fi
  install_group torch "PyTorch (0.2 GB in its CPU build, about 3 GB with CUDA)"
}

PYTHON=${PYTHON:-python3}
make_venv
install_torch
if [[ $ros == embedded ]]; then
  install_group runtime "NumPy, OpenCV and readers for videos and bags"
  install_group ros "ROS 2 Jazzy as Python packages, and colcon"
else
  install_group native "NumPy, OpenCV and readers for videos and bags, to go with ROS 2 $ROS_DISTRO"
fi
if [[ ${1:-} == dev ]]; then
  [[ $ros == embedded ]] && install_group dev "pytest, ruff, mypy and clang-format"
fi
exit 0
