#!/usr/bin/env bash
# How near a decomposer trained on ALFRED's goals comes to the steps of its plans, on tasks it has not seen: three seeds
# beside the most common plan, templates and the plan of the nearest goal. The table is benchmarks/results/decomposer.md.
# Runs one after the other on one thread; at most 15 minutes. Stopped and started again, it goes on where it was.
#
#   SIGHTLINE_DATA=FOLDER benchmarks/decomposer.sh          FOLDER has alfred/ in it
#   SEEDS="0 1 2" STEPS=800 RUNS=FOLDER TABLE=FILE         choices
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} runs=${RUNS:-runs/decomposer}
python=${PYTHON:-.venv/bin/python}
SEEDS=${SEEDS:-0 1 2} STEPS=${STEPS:-800}
mkdir -p "$runs"

source benchmarks/job.sh

for seed in $SEEDS; do
  job "train-$seed" train-decomposer seed="$seed" steps="$STEPS"
  job "beam-$seed" evaluate-decomposer model="$runs/train-$seed/model"
  job "greedy-$seed" evaluate-decomposer model="$runs/train-$seed/model" beam=1
  job "free-$seed" evaluate-decomposer model="$runs/train-$seed/model" beam=1 constrained=false
done
"$python" -m benchmarks.decomposer "$runs" --out "${TABLE:-benchmarks/results/decomposer.md}"
