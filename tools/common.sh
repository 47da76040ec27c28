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
built_from=$install/.built-from

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# What install/ is made of, as one number. Python files are linked into it, so of those only the names matter.
sources() (
  cd "$root" || exit
  {
    cat requirements/ros.txt CMakeLists.txt package.xml setup.py
    [[ ! -e tools/op_build.py ]] || cat tools/op_build.py
    find msg srv launch config scripts taptrv2_ros taptrv2_core -type f ! -name '*.pyc' ! -name '*.so' \
      \( -name '*.py' -printf '%p\n' -o -printf '%p %T@ %s\n' \) | sort
  } | sha256sum
)
