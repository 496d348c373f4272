#!/usr/bin/env bash
# Which reward trains the better agent: FindObject and FindReferral on unseen homes, 3 training seeds each. The policy
# is the same everywhere (PPO on grounder features); what pays it changes: the task, VLM-RM without a baseline (alpha 0)
# and with one (alpha 0.5 and 1), the grounder, half the task and half VLM-RM, and a smaller tower at alpha 0.5; beside
# random and oracle. The same rewards are first measured on frames of val homes (score-rewards), so that the table can
# say whether that measure foretells the agents. It is benchmarks/results/reward_arms.md. Two runs side by side, one
# thread each; about 75 minutes on 2 cores, 8 of them for homes and models, which are made unless they are given.
# Stopped and started again, it goes on where it was. Test homes are evaluated once.
#
#   benchmarks/reward_arms.sh
#   STEPS=80000 SEEDS="0 1 2" TASKS="find_object find_referral" ARMS="task grounded" RUNS=FOLDER TABLE=FILE    choices
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} runs=${RUNS:-runs/rewards}
export STEPS=${STEPS:-80000} EPISODES=${EPISODES:-300}
SEEDS=${SEEDS:-0 1 2} TASKS=${TASKS:-find_object find_referral}
ARMS=${ARMS:-task vlm-0 vlm-50 vlm-100 grounded mixture small-50}
mkdir -p "$runs"

source benchmarks/job.sh

models() {
  job scenes build-scenes source=procedural
  job grounder pretrain-grounding scenes="$runs/scenes" &
  local grounder=$!
  job views render-views scenes="$runs/scenes" train_views=60 val_views=25 test_views=30
  job two-tower pretrain-vl views="$runs/views"
  job small-tower pretrain-vl views="$runs/views" model.dim=48 model.head_width=64 model.image.stem_width=24 \
    model.image.width=32 +model.text.options.hidden_size=64 +model.text.options.num_hidden_layers=1 \
    +model.text.options.num_attention_heads=2 +model.text.options.intermediate_size=128
  wait "$grounder"
}

measure() { # task tower: the rewards on frames of val homes, before any agent is trained
  local task=$1 tower=$2
  job "$task-score-$tower" score-rewards scenes="$runs/scenes" split=val task="$task" vl="$runs/$tower/model" \
    grounder="$runs/grounder/model" alpha=0.5 "alphas=[0,0.5,1]" "prompts=[captions]" cameras=8 walks=1
}

trial() { # task arm seed
  local task=$1 arm=$2 seed=$3 options large=$runs/two-tower/model
  local drawn=(scenes="$runs/scenes" task="$task" split=test episodes="$EPISODES")
  local same=(episode_set="$runs/$task-oracle/episode_set.parquet" seed="$seed")
  case $arm in
    oracle) job "$task-oracle" evaluate-agent "${drawn[@]}" policy=oracle; return ;;
    random) job "$task-random-$seed" evaluate-agent "${drawn[@]}" "${same[@]}" policy=random; return ;;
    task) options=(reward=task) ;;
    vlm-0) options=(reward=vlm reward_vl="$large" alpha=0) ;;
    vlm-50) options=(reward=vlm reward_vl="$large" alpha=0.5) ;;
    vlm-100) options=(reward=vlm reward_vl="$large" alpha=1) ;;
    small-50) options=(reward=vlm reward_vl="$runs/small-tower/model" alpha=0.5) ;;
    grounded) options=(reward=grounded) ;;
    mixture) options=(reward=mixture reward_vl="$large" alpha=0.5 task_weight=0.5 model_weight=0.5) ;;
    *) echo "no such arm: $arm"; return 1 ;;
  esac
  job "$task-$arm-$seed-training" train-agent scenes="$runs/scenes" task="$task" seed="$seed" total_steps="$STEPS" \
    features=grounder grounder="$runs/grounder/model" "${options[@]}"
  job "$task-$arm-$seed" evaluate-agent "${drawn[@]}" "${same[@]}" policy="$runs/$task-$arm-$seed-training/policy"
}

trials() {
  for seed in $SEEDS; do for task in $TASKS; do for arm in $ARMS random; do echo "trial $task $arm $seed"; done; done; done
}

export -f measure trial
models
{
  for task in $TASKS; do echo "trial $task oracle 0"; done
  for task in $TASKS; do for tower in two-tower small-tower; do echo "measure $task $tower"; done; done
} | xargs -P 2 -L 1 bash -c '"$@"' _
trials | xargs -P 2 -L 1 bash -c '"$@"' _
.venv/bin/python -m benchmarks.reward_arms "$runs" --out "${TABLE:-benchmarks/results/reward_arms.md}"
