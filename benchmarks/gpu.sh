#!/usr/bin/env bash
# benchmarks/gpu.py on a machine without a network: benchmarks/gpu.sh WHEELS [arguments of benchmarks.gpu]
#
# The machine has torch with CUDA, numpy, scipy, numba and transformers; WHEELS is a folder of wheels for its Python of
# what else is needed: warp-lang jaxtyping wadler-lindig gymnasium farama-notifications cloudpickle, and for PPO
# hydra-core omegaconf==2.3.1 antlr4-python3-runtime==4.9.3 (pip wheel builds the last), and for grounding pyarrow. They
# go into a temporary folder; nothing is installed for good. Where there is a network:
#   pip download --only-binary=:all: --no-deps --python-version 3.12 --platform manylinux_2_34_x86_64 -d WHEELS ...
# 193 s on an H200 (2026-11-27). PYTHON=python3.12 takes another interpreter;
# MODULE=benchmarks.reason_gpu measures a reasoning step of a 3 B model instead (--cpu and --out alone; about 80 s).
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: benchmarks/gpu.sh WHEELS [--cpu] [--homes N] [--out FILE]" >&2; exit 2; }
wheels=$1
shift
[ -d "$wheels" ] || { echo "benchmarks/gpu.sh: no folder of wheels at $wheels" >&2; exit 2; }
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G "$wheels/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --disable-pip-version-check --target "$site" "$wheels"/*.whl
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "nvidia-smi: no device"
PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}" "$python" -m "${MODULE:-benchmarks.gpu}" "$@"
