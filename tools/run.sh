#!/usr/bin/env bash
# Runs a command with the built package, its Python packages and ROS on the paths:
#   tools/run.sh python -m taptrv2_ros.demo
#   tools/run.sh taptr bench
# ROS discovery stays on this machine unless ROS_AUTOMATIC_DISCOVERY_RANGE (or, before Jazzy, ROS_LOCALHOST_ONLY) says otherwise.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
setup=$install/taptrv2_ros/share/taptrv2_ros/package.bash # no Python in it, and at home in folders with spaces
[[ -e $setup ]] || fail "nothing is built yet: run 'make build' first"
[[ -e $built_from && $(head -n 1 "$built_from") == "$(sources)" ]] ||
  say "The sources have changed since install/ was built: 'make build' brings it up to date" >&2
[[ $# -gt 0 ]] || fail "which command? For example: tools/run.sh python -m taptrv2_ros.demo"
[[ $ros != embedded ]] || source "$root/tools/embedded_ros.sh"
source "$setup"
export PATH=$install/taptrv2_ros/lib/taptrv2_ros:$venv/bin:$PATH
export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
[[ $ros != humble ]] || export ROS_LOCALHOST_ONLY=${ROS_LOCALHOST_ONLY:-1}
# OpenMP's threads spin for a moment only while they wait: spinning on makes a step ten times as long on a busy machine.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-10000}
# Compiled kernels that PyTorch and oneDNN keep: each number of points needs some of its own, a quarter of a megabyte each.
export LRU_CACHE_CAPACITY=${LRU_CACHE_CAPACITY:-128} ONEDNN_PRIMITIVE_CACHE_CAPACITY=${ONEDNN_PRIMITIVE_CACHE_CAPACITY:-128}
exec "$@"
