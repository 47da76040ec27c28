# Sourced by the scripts beside it: where things are, which ROS is used, and how to speak.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -n ${ROS_DISTRO:-} ]]; then
  ros=$ROS_DISTRO # installed and sourced
  venv=$root/.venv-$ROS_DISTRO
else
  ros=embedded # Python wheels inside the virtual environment
  venv=$root/.venv
fi
python=$venv/bin/python
install=$root/install

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
