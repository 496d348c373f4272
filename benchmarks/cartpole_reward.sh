#!/usr/bin/env bash
# CartPole from rewards that come from pixels: a DQN agent that sees the state is paid by how well the picture of each
# step fits a sentence (VLM-RM with alpha 0, 0.5 and 1), by a two-tower model trained on captioned frames of CartPole;
# beside it the task's own reward, a constant one, and random actions. 3 seeds each, a tower for each seed. The table is
# benchmarks/results/cartpole_reward.md. Two runs side by side, one thread each; at most 35 minutes on 2 cores. Stopped
# and started again, it goes on where it was.
#
#   benchmarks/cartpole_reward.sh         needs gymnasium[classic-control]
#   SIDE_BY_SIDE=1 ARMS="vlm-0.5 task" SEEDS="0 1 2" RUNS=FOLDER TABLE=FILE    what else can be chosen
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} runs=${RUNS:-runs/cartpole_reward} STEPS=${STEPS:-12000}
python=${PYTHON:-.venv/bin/python}
SEEDS=${SEEDS:-0 1 2} ARMS=${ARMS:-vlm-0.5 task vlm-1 vlm-0 constant} SIDE_BY_SIDE=${SIDE_BY_SIDE:-2}
mkdir -p "$runs"

source benchmarks/job.sh

tower() { # seed
  job "tower-$1" pretrain-vl views="$runs/views" seed="$1" steps=400 batch_size=64 lr=1e-3 eval_every=100 eval_views=50 \
    model.image.stem_width=32 model.image.width=48 \
    model.text.options.hidden_size=64 model.text.options.num_hidden_layers=1 \
    model.text.options.num_attention_heads=2 model.text.options.intermediate_size=128
}

trial() { # arm seed
  local arm=$1 seed=$2 options
  case $arm in
    vlm-*) options=(reward=vlm alpha="${arm#vlm-}" vl="$runs/tower-$seed/model") ;;
    task | constant) options=(reward="$arm") ;;
    *) echo "no such arm: $arm"; return 1 ;;
  esac
  job "$arm-$seed" train-vlm-rm reward_task=cartpole seed="$seed" total_steps="$STEPS" checkpoint_every=5000 "${options[@]}"
}

export -f tower trial
"$python" -m benchmarks.cartpole_reward views "$runs/views"
printf '%s\n' $SEEDS | xargs -P "$SIDE_BY_SIDE" -L 1 bash -c 'tower "$@"' tower
for seed in $SEEDS; do for arm in $ARMS; do echo "$arm $seed"; done; done |
  xargs -P "$SIDE_BY_SIDE" -L 1 bash -c 'trial "$@"' trial
"$python" -m benchmarks.cartpole_reward table "$runs" --out "${TABLE:-benchmarks/results/cartpole_reward.md}"
