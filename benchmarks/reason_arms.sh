#!/usr/bin/env bash
# Two questions about reasoning models, on questions about homes that training has never seen. After a supervised warm
# start, does learning from reward beat more supervised learning at equal compute? And at equal numbers of sampled
# answers, which of GRPO, DAPO, Reinforce++, VGPO and VGPO without visual compensation learns most, on questions that
# need the picture and on those that do not? Three seeds, each with a vision tower (contrast of views and captions first,
# then descriptions beside the questions: from worked answers alone these models learn not to look), a model, a warm start and an order of its own. The
# table is benchmarks/results/reason_arms.md, its curves lie beside it. Two runs side by side, one thread each; sized for
# 75 minutes on 2 cores for each part, the second after the first. Stopped and started again, it goes on where it was.
#
#   benchmarks/reason_arms.sh
#   SEEDS="0 1 2" PARTS="start losses" AT_ONCE=2 RUNS=FOLDER TABLE=FILE          choices
#   EYE_STEPS= WARM_STEPS= ANSWERS= TRAIN_HOMES= TEST_HOMES= KINDS= LIMIT=     sizes; LIMIT questions of a set (0: all)
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} python=${PYTHON:-.venv/bin/python} runs=${RUNS:-runs/reason_arms}
export EYE_STEPS=${EYE_STEPS:-500} WARM_STEPS=${WARM_STEPS:-1000} ANSWERS=${ANSWERS:-8192} LIMIT=${LIMIT:-480}
export TRAIN_HOMES=${TRAIN_HOMES:-200} TEST_HOMES=${TEST_HOMES:-40}
SEEDS=${SEEDS:-0 1 2} PARTS=${PARTS:-start losses}
export KINDS=${KINDS:-existence,count,color,relation,nearer,arithmetic,deduction}
mkdir -p "$runs"

source benchmarks/job.sh

# what all arms share; ANSWERS answers are PROMPTS x SAMPLES a step unless groups are asked for again (DAPO, VGPO)
export LENGTH=48
export BY_REWARD="prompts=16 samples=8 minibatches=2 lr=1e-4 reward.format=0.2"
export IMITATION="algorithm=sft prompts=32 schedule=constant"

make_questions() {
  local bare="source=procedural train_referrals=1 eval_referrals=1 questions=0 captions=false points=0" # surfaces alone
  job scenes build-scenes $bare train_homes="$TRAIN_HOMES" val_homes="$TEST_HOMES" test_homes="$TEST_HOMES"
  job large build-scenes $bare train_homes=1 val_homes=1 test_homes="$TEST_HOMES" rooms_min=3 rooms_max=4 seed=1
  job views render-views scenes="$runs/scenes" train_views=40 val_views=10 test_views=0
  job questions build-questions scenes="$runs/scenes" "kinds=[$KINDS]"
  job pictures build-questions scenes="$runs/scenes" "kinds=[describe]" views=32 per_home=32 "splits=[train]"
  job larger-homes build-questions scenes="$runs/large" "kinds=[$KINDS]" "splits=[test]"
}

train() { # name seed [key=value ...]
  local name=$1 seed=$2
  shift 2
  job "$name-$seed" train-reasoner data="$runs/questions" seed="$seed" max_new_tokens="$LENGTH" val_questions=200 \
    eval_every="$LOOK" "$@"
}

measure() { # name seed: on unseen homes, on larger ones, and on homes like those of training
  job "$1-$2-test" evaluate-reasoner model="$runs/$1-$2/model" data="$runs/questions" split=test \
    "also=[val,$runs/larger-homes/test.jsonl]" max_new_tokens="$LENGTH" questions="$LIMIT" k=4 seed=0 "${@:3}"
}

eyes() { # seed: a vision tower of the sizes of the small model, by contrast of views of training homes and captions
  job "eyes-$1" pretrain-vl views="$runs/views" seed="$1" steps="$EYE_STEPS" eval_every="$EYE_STEPS" batch_size=64 lr=1e-3 \
    flip=false jitter=0 export_towers=true objectives.itc=1 model.image.image_size=64 \
    model.image.model_type=clip_vision_model "model.image.options={patch_size: 8, hidden_size: 96, num_hidden_layers: 3, \
    num_attention_heads: 4, intermediate_size: 288}" \
    "model.text.options={hidden_size: 96, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 384}"
}

warm() { # seed
  eyes "$1"
  LENGTH=64 LOOK=$((WARM_STEPS / 4)) train warm "$1" $IMITATION lr=1e-3 steps="$WARM_STEPS" \
    small.vision="$runs/eyes-$1/towers/image" "also=[$runs/pictures]"
  measure warm "$1"
}

trial() { # arm seed: an arm by reward from the seed's warm start, and its measure
  local arm=$1 seed=$2 options
  case $arm in
    grpo) options="algorithm=grpo" ;;
    dapo) options="algorithm=dapo" ;;
    reinforce++) options="algorithm=reinforce++" ;;
    vgpo) options="algorithm=dapo vgpo.enabled=true" ;;
    vgpo-uncompensated) options="algorithm=dapo vgpo.enabled=true vgpo.compensation=false" ;;
    *) echo "no such arm: $arm"; return 1 ;;
  esac
  LOOK=16 train "$arm" "$seed" model="$runs/warm-$seed/model" $BY_REWARD steps=$((ANSWERS / 128)) answers="$ANSWERS" $options
  measure "$arm" "$seed" before="$runs/warm-$seed/model"
}

more_imitation() { # seed: as much compute as the seed's GRPO run took, on supervised learning
  local steps
  steps=$("$python" -m benchmarks.reason_arms "$runs" --steps-of-imitation "$1")
  LOOK=$((steps / 10 + 1)) train imitation "$1" model="$runs/warm-$1/model" $IMITATION lr=3e-4 steps="$steps"
  measure imitation "$1" before="$runs/warm-$1/model"
}

rows() { # function arms: one line a run
  for seed in $SEEDS; do for arm in $2; do echo "$1 $arm $seed"; done; done
}

export -f train measure eyes warm trial more_imitation
side_by_side() { xargs -P "${AT_ONCE:-2}" -L 1 bash -euc '"$@"' _ || echo "some runs failed; start again to go on"; }

make_questions
for seed in $SEEDS; do echo "warm $seed"; done | side_by_side
for part in $PARTS; do
  case $part in
    start)
      rows trial grpo | side_by_side
      for seed in $SEEDS; do echo "more_imitation $seed"; done | side_by_side ;;
    losses) rows trial "grpo dapo reinforce++ vgpo vgpo-uncompensated" | side_by_side ;;
    *) echo "no such part: $part"; exit 1 ;;
  esac
done
"$python" -m benchmarks.reason_arms "$runs" --out "${TABLE:-benchmarks/results/reason_arms.md}"
