#!/usr/bin/env bash
# The demo's evidence: the full preset with 3 training seeds, on generated homes and on ProcTHOR houses, and the table
# of it in benchmarks/results/. Two runs side by side, one thread each; about 70 minutes on 2 cores.
#
#   benchmarks/demo.sh            needs SIGHTLINE_DATA for the ProcTHOR half, and says so without
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
sightline=.venv/bin/sightline
runs=runs/evidence
mkdir -p "$runs"

demo() { # source seed [key=value ...]
  local source=$1 seed=$2 out="$runs/$1-$2"
  shift 2
  # every run has its own stages: two runs must not build the same one at the same time
  "$sightline" demo source="$source" seed="$seed" threads=1 out="$out" stages="$out/stages" resume=auto "$@" >"$out.log" 2>&1 ||
    { echo "demo $source $seed failed: $(tail -n 1 "$out.log")"; return 1; }
  echo "demo $source $seed: done"
}

jobs_of() {
  for seed in 0 1 2; do echo "procedural $seed"; done
  if [ -n "${SIGHTLINE_DATA:-}" ]; then
    for seed in 0 1 2; do echo "procthor $seed source.path=$SIGHTLINE_DATA/procthor_houses/houses.jsonl.gz"; done
  else
    echo "SIGHTLINE_DATA is not set: the ProcTHOR half is left out" >&2
  fi
}

export -f demo
export sightline runs
jobs_of | xargs -P 2 -L 1 bash -c 'demo "$@"' demo
.venv/bin/python -m benchmarks.demo "$runs"/procedural-[0-2] --out benchmarks/results/demo.md
if [ -n "${SIGHTLINE_DATA:-}" ]; then
  .venv/bin/python -m benchmarks.demo "$runs"/procthor-[0-2] --out benchmarks/results/demo_procthor.md || test $? = 1 # shown, not judged
fi
