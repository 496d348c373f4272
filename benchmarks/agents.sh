#!/usr/bin/env bash
# Agents on unseen homes at equal environment steps: FindObject and FindReferral, 3 training seeds each; from scratch on
# pixels, on two-tower features, on grounder features, cloning the oracle on grounder features, random, oracle. The table
# is benchmarks/results/agents.md. Two runs side by side, one thread each; about 60 minutes on 2 cores, 8 of them for
# homes and models, which are made unless they are given. Stopped and started again, it goes on where it was.
#
#   benchmarks/agents.sh
#   SCENES=FOLDER VL=MODEL GROUNDER=MODEL benchmarks/agents.sh     homes and models at hand, trained on those homes
#   STEPS=150000 SEEDS="0 1 2" TASKS="find_object find_referral" RUNS=FOLDER TABLE=FILE    what else can be chosen
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=.venv/bin/sightline runs=${RUNS:-runs/agents} STEPS=${STEPS:-150000} EPISODES=${EPISODES:-300}
SEEDS=${SEEDS:-0 1 2} TASKS=${TASKS:-find_object find_referral} ARMS=${ARMS:-pixels vl grounder cloning}
mkdir -p "$runs"

source benchmarks/job.sh

towers() {
  job views render-views scenes="$SCENES" train_views=60 val_views=25 test_views=0
  job two-tower pretrain-vl views="$runs/views"
}

trial() { # task arm seed
  local task=$1 arm=$2 seed=$3 options
  local drawn=(scenes="$SCENES" task="$task" split=test episodes="$EPISODES")
  local same=(episode_set="$runs/$task-oracle/episode_set.parquet" seed="$seed")
  case $arm in
    oracle) job "$task-oracle" evaluate-agent "${drawn[@]}" policy=oracle; return ;;
    random) job "$task-random-$seed" evaluate-agent "${drawn[@]}" "${same[@]}" policy=random; return ;;
    pixels) options=(features=pixels image_size=48) ;;
    vl) options=(features=vl vl="$VL") ;;
    grounder) options=(features=grounder grounder="$GROUNDER") ;;
    cloning) options=(features=grounder grounder="$GROUNDER" algorithm=bc) ;;
    *) echo "no such arm: $arm"; return 1 ;;
  esac
  job "$task-$arm-$seed-training" train-agent scenes="$SCENES" task="$task" seed="$seed" total_steps="$STEPS" "${options[@]}"
  job "$task-$arm-$seed" evaluate-agent "${drawn[@]}" "${same[@]}" policy="$runs/$task-$arm-$seed-training/policy"
}

export -f trial
if [ -z "${SCENES:-}" ]; then
  SCENES=$runs/scenes
  job scenes build-scenes source=procedural
fi
export SCENES VL=${VL:-} GROUNDER=${GROUNDER:-}
waiting=
if [ -z "$VL" ]; then
  VL=$runs/two-tower/model
  towers & waiting+=" $!"
fi
if [ -z "$GROUNDER" ]; then
  GROUNDER=$runs/grounder/model
  job grounder pretrain-grounding scenes="$SCENES" & waiting+=" $!"
fi
for process in $waiting; do wait "$process"; done

trials() {
  for seed in $SEEDS; do for task in $TASKS; do for arm in $ARMS random; do echo "$task $arm $seed"; done; done; done
}
for task in $TASKS; do echo "$task oracle 0"; done | xargs -P 2 -L 1 bash -c 'trial "$@"' trial
trials | xargs -P 2 -L 1 bash -c 'trial "$@"' trial
.venv/bin/python -m benchmarks.agents "$runs" --out "${TABLE:-benchmarks/results/agents.md}"
