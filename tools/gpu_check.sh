#!/usr/bin/env bash
# Builds the ops for this machine's GPU, checks ops and network on it, times them and prints a short table last.
#
#   tools/gpu_check.sh               needs torch (with CUDA), numpy and nvcc; no network; under 8 minutes
#   PYTHON=python3.12 tools/gpu_check.sh
#   tools/gpu_check.sh --out FOLDER  where the results go, as Markdown and JSON (default build/gpu_check)
#   tools/gpu_check.sh --only speed memory   checks with these words in their names, for one that had no time left
#   tools/gpu_check.sh --cpu         the same small and on the CPU, to see that this script works; builds nothing
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python=${PYTHON:-python3}

fail() {
  echo "gpu_check: $*" >&2
  exit 1
}

gpu=$("$python" -c "import torch, numpy; print(torch.cuda.is_available(), torch.version.cuda)") ||
  fail "$python has no torch or numpy; set PYTHON to one that has"
for word in "$@"; do
  if [[ $word == --cpu ]]; then exec "$python" tools/gpu_check.py "$@"; fi
done
[[ $gpu == True* ]] || fail "torch sees no GPU (built for CUDA: ${gpu#* })"
if [[ -z ${CUDA_HOME:-} ]]; then
  for home in "$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /none/bin/nvcc)")")")" /usr/local/cuda; do
    if [[ -x $home/bin/nvcc && -f $home/include/cuda_runtime.h ]]; then export CUDA_HOME=$home && break; fi
  done
fi
[[ -x ${CUDA_HOME:-/none}/bin/nvcc ]] || fail "no CUDA toolkit: set CUDA_HOME to the folder with bin/nvcc"

date -u
"$python" - <<'PY'
import torch
p = torch.cuda.get_device_properties(0)
print(f"{p.name}, compute capability {p.major}.{p.minor}, {p.total_memory / 2**30:.0f} GiB, torch {torch.__version__}, CUDA {torch.version.cuda}")
PY
"$CUDA_HOME/bin/nvcc" --version | tail -n 1

TORCH_CUDA_ARCH_LIST=$("$python" -c "import torch; print('%d.%d' % torch.cuda.get_device_capability())")
export TORCH_CUDA_ARCH_LIST
export TAPTRV2_CUDA=1
echo "== build for $TORCH_CUDA_ARCH_LIST"
start=$SECONDS
log=$(mktemp)
if ! timeout 240 "$python" tools/op_build.py --inplace >"$log" 2>&1; then
  tail -n 40 "$log"
  fail "the build failed; whole log in $log"
fi
echo "built in $((SECONDS - start)) s"

"$python" tools/gpu_check.py --seconds $((470 - SECONDS)) "$@"
code=$?
echo "whole check: $((SECONDS)) s"
exit $code
