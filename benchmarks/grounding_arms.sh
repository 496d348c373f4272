#!/usr/bin/env bash
# What makes the grounder find things in homes it has never seen: its parts left out one by one, less and less training
# language, and homes of one simulator asked about those of another, both ways; 3 training seeds each. The table is
# benchmarks/results/grounding_arms.md, the curve beside it. Two runs side by side, one thread each; about 70 minutes on
# 2 cores. Stopped and started again, it goes on where it was. The test splits are evaluated once, at the end of each run.
#
#   benchmarks/grounding_arms.sh        needs SIGHTLINE_DATA for the ProcTHOR houses
#   ARMS="full no-graph" SEEDS="0 1 2" RUNS=FOLDER STEPS=600 TABLE=FILE benchmarks/grounding_arms.sh
#
# Configured and not run here, for want of time (a GPU, or hours): the sizes of the paper, ARMS="gps-paper gps-code".
set -euo pipefail
cd "$(dirname "$0")/.."
: "${SIGHTLINE_DATA:?the ProcTHOR houses are in \$SIGHTLINE_DATA/procthor_houses; set it}"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} runs=${RUNS:-runs/grounding} STEPS=${STEPS:-400}
SEEDS=${SEEDS:-0 1 2}
ARMS=${ARMS:-full houses share-12 graph no-spatial no-scene no-object share-25 share-50 multi turned gps-form both}
mkdir -p "$runs"

job() { # name job [key=value ...]
  local name=$1 job=$2
  shift 2
  "$sightline" "$job" out="$runs/$name" threads=1 resume=auto "$@" >>"$runs/$name.log" 2>&1 ||
    { echo "$name failed: $(tail -n 1 "$runs/$name.log")"; return 1; }
  echo "$(date +%H:%M:%S) $name"
}

train() { # arm seed
  local arm=$1 seed=$2 scenes=$runs/homes options=()
  case $arm in
    full) ;;
    houses) scenes=$runs/houses ;;                        # ProcTHOR alone
    both) scenes=$runs/homes,$runs/houses ;;
    share-12) options=(share=0.125) ;;
    share-25) options=(share=0.25) ;;
    share-50) options=(share=0.5) ;;
    graph) options=(architecture.graph_layers=2) ;;       # with the scene-graph encoder
    no-spatial) options=(architecture.bias=none) ;;       # attention without the spatial bias
    no-scene) options=(scene_loss=0) ;;
    no-object) options=(stages=scene) ;;                  # the object encoder learns along with the sentences
    gps-form) options=(architecture.roles=0 architecture.fusion_bias=false anchor_loss=0) ;; # GPS's own parts alone
    turned) options=(rotate=sentences) ;;                 # quarter turns where a sentence names no side
    multi) options=(stages=finetune task=multi init="$runs/full-$seed/model" steps=200) ;;
    gps-paper | gps-code) options=(recipe="$arm") ;;
    *) echo "no such arm: $arm"; return 1 ;;
  esac
  case $arm in multi | gps-paper | gps-code) ;; *) options+=(steps="$STEPS") ;; esac
  job "$arm-$seed" pretrain-grounding scenes="$scenes" seed="$seed" "${options[@]}"
}

test_once() { # arm seed
  for asked in homes houses; do
    job "$1-$2-on-$asked" evaluate-grounding scenes="$runs/$asked" model="$runs/$1-$2" failures=0 \
      baselines="$([ "$1-$2" = full-0 ] && echo true || echo false)"
  done
}

export -f job train test_once
job homes build-scenes eval_referrals=40 &
job houses build-scenes source=procthor source.path="$SIGHTLINE_DATA/procthor_houses/houses.jsonl.gz" \
  train_referrals=300 eval_referrals=120
wait
trials() { # all seeds of an arm before the next arm
  for arm in $ARMS; do for seed in $SEEDS; do echo "$arm $seed"; done; done
}
trials | xargs -P 2 -L 1 bash -c 'train "$@"' train
trials | xargs -P 2 -L 1 bash -c 'test_once "$@"' test_once
for arm in full turned; do # does the answer stay when the home is turned?
  if [ -d "$runs/$arm-0/model" ]; then
    "${PYTHON:-.venv/bin/python}" -m benchmarks.turned_scenes "$runs/homes" "$runs/$arm"-[0-9] >"$runs/$arm.turned.md"
  fi
done
"${PYTHON:-.venv/bin/python}" -m benchmarks.grounding_arms "$runs" --out "${TABLE:-benchmarks/results/grounding_arms.md}"
