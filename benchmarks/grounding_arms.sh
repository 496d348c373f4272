#!/usr/bin/env bash
# What makes the grounder find things in homes it has never seen: its parts left out one by one, less and less training
# language (arms of a short training, so that there can be many), and homes of one simulator asked about those of another,
# both ways (arms of a longer one); 3 training seeds each. The table is benchmarks/results/grounding_arms.md, the curve
# beside it. Two runs side by side, one thread each; about 75 minutes on 2 slow cores. Stopped and started again, it goes
# on where it was. Test splits are evaluated once, after all training.
#
#   benchmarks/grounding_arms.sh        needs SIGHTLINE_DATA for the ProcTHOR houses
#   ARMS="full graph" SEEDS="0 1 2" RUNS=FOLDER TABLE=FILE benchmarks/grounding_arms.sh
#
# Configured and not run here, for want of time: ARMS="both turned gps-form" and, for a GPU, ARMS="gps-paper gps-code".
set -euo pipefail
cd "$(dirname "$0")/.."
: "${SIGHTLINE_DATA:?the ProcTHOR houses are in \$SIGHTLINE_DATA/procthor_houses; set it}"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} runs=${RUNS:-runs/grounding}
SEEDS=${SEEDS:-0 1 2}
export SHORT='steps=300 batch_sentences=4' LONG='steps=400' # read as words
ARMS=${ARMS:-long houses full share-12 no-spatial no-scene graph no-object share-25 share-50 multi}
mkdir -p "$runs"

source benchmarks/job.sh

train() { # arm seed
  local arm=$1 seed=$2 scenes=$runs/homes options=()
  case $arm in
    long) options=($LONG) ;;
    houses) scenes=$runs/houses options=($LONG) ;; # ProcTHOR alone
    both) scenes=$runs/homes,$runs/houses options=($LONG) ;;
    turned) options=($LONG rotate=sentences) ;;    # quarter turns where a sentence names no side
    multi) options=(init="$runs/long-$seed/model" stages=finetune task=multi steps=100) ;;
    full) options=($SHORT) ;;
    share-12) options=($SHORT share=0.125) ;;
    share-25) options=($SHORT share=0.25) ;;
    share-50) options=($SHORT share=0.5) ;;
    graph) options=($SHORT architecture.graph_layers=2) ;;    # with the scene-graph encoder
    no-spatial) options=($SHORT architecture.bias=none) ;;    # attention without the spatial bias
    no-scene) options=($SHORT scene_loss=0) ;;
    no-object) options=($SHORT stages=scene) ;;    # the object encoder learns along with the sentences
    gps-form) options=($SHORT architecture.roles=0 architecture.fusion_bias=false anchor_loss=0) ;; # as in GPS
    gps-paper | gps-code) options=(recipe="$arm") ;;
    *) echo "no such arm: $arm"; return 1 ;;
  esac
  job "$arm-$seed" pretrain-grounding scenes="$scenes" seed="$seed" "${options[@]}"
}

test_once() { # arm seed
  for asked in homes houses; do
    job "$1-$2-on-$asked" evaluate-grounding scenes="$runs/$asked" model="$runs/$1-$2" failures=0 \
      baselines="$([ "$1-$2" = long-0 ] && echo true || echo false)"
  done
}

export -f train test_once
job homes build-scenes eval_referrals=40 &
job houses build-scenes source=procthor source.path="$SIGHTLINE_DATA/procthor_houses/houses.jsonl.gz" \
  train_referrals=300 eval_referrals=120
wait
trials() { # all seeds of an arm before the next arm
  for arm in $ARMS; do for seed in $SEEDS; do echo "$arm $seed"; done; done
}
trials | xargs -P 2 -L 1 bash -c 'train "$@"' train
trials | xargs -P 2 -L 1 bash -c 'test_once "$@"' test_once
for arm in long turned; do # does the answer stay when the home is turned?
  if [ -d "$runs/$arm-0/model" ]; then
    "${PYTHON:-.venv/bin/python}" -m benchmarks.turned_scenes "$runs/homes" "$runs/$arm"-[0-9] >"$runs/$arm.turned.md"
  fi
done
"${PYTHON:-.venv/bin/python}" -m benchmarks.grounding_arms "$runs" --out "${TABLE:-benchmarks/results/grounding_arms.md}"
