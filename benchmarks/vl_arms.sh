#!/usr/bin/env bash
# Renaissance's two experiments and what each objective adds, on rendered views of homes and on NLVR1: which towers may
# stay frozen in pretraining, what a one-tower model should start from, and what matching, masked words and bridges add
# to contrast. "Pretrained" towers are pretrained here, on the single modalities of the same data: pictures by masked
# image modelling, words by masked words. Three seeds, each with towers of its own. The table is
# benchmarks/results/vl_arms.md. Two runs side by side, one thread each; within 75 minutes on 2 cores for each part.
# Stopped and started again, it goes on where it was. Test homes and NLVR1's hidden file are evaluated once.
#
#   benchmarks/vl_arms.sh                                                     nlvr1 needs SIGHTLINE_DATA
#   SEEDS="0 1 2" PARTS="views times nlvr1" VIEWS=FOLDER RUNS=FOLDER TABLE=FILE     choices
#   DEVICE=cuda AT_ONCE=14                      NLVR1 on a GPU, so many runs at once, a core each
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} python=${PYTHON:-.venv/bin/python} runs=${RUNS:-runs/vl_arms}
export VIEWS=${VIEWS:-$runs/views}
export TOWER_STEPS=${TOWER_STEPS:-300} VIEW_STEPS=${VIEW_STEPS:-400}
export PAIR_STEPS=${PAIR_STEPS:-40} STYLE_STEPS=${STYLE_STEPS:-40} HUMAN_STEPS=${HUMAN_STEPS:-80}
export DEVICE=${DEVICE:-cpu}
SEEDS=${SEEDS:-0 1 2} PARTS=${PARTS:-views times nlvr1}
VIEW_ARMS=${VIEW_ARMS:-none text vision both scratch one-text one-vision one-random itc itc-itm bridges}
NLVR_ARMS=${NLVR_ARMS:-none text vision both blind one-text one-vision one-random}
mkdir -p "$runs"

source benchmarks/job.sh

# one size for every tower and stack: 3 layers, 96 wide
export SHAPE="hidden_size: 96, num_hidden_layers: 3, num_attention_heads: 3, intermediate_size: 384, hidden_act: gelu"
export ONE="model.kind=one-tower model.one.layers=3 model.one.width=96 model.one.heads=3 model.one.dropout=0"
export STYLE="data=$runs/style/pairs-train.jsonl val_data=$runs/style/pairs-val.jsonl images=$runs/style/train_images.zip val_images=$runs/style/val_images.zip"
export SIZE="model.image.image_size=48 model.image.image_width=192 model.max_tokens=80" # of NLVR1's 100 x 400 pixels
export FUSED="model.fusion.layers=2 model.fusion.width=96 model.fusion.heads=3 model.fusion.dropout=0"

arm_options() { # prefix arm seed patch: how the model of an arm starts, one option a line
  local pictures=$runs/$1-pictures-$3/towers/image words=$runs/$1-words-$3/towers/text
  local towers=("model.image.pretrained=$pictures" "model.text.pretrained=$words")
  case $2 in
    scratch) towers=(model.image.model_type=vit "model.image.options={patch_size: $4, $SHAPE}" "model.text.options={$SHAPE}") ;;
    one-text) towers=($ONE model.one.norm=post model.one.init=text model.one.pretrained="$words" model.one.patch="$4") ;;
    one-vision) towers=($ONE model.one.init=vision model.one.pretrained="$pictures" model.one.patch="$4") ;;
    one-random) towers=($ONE model.one.patch="$4") ;;
  esac
  case $2 in
    one-*) ;;
    itc) ;;
    bridges) towers+=($FUSED model.fusion.bridge=add) ;;
    *) towers+=($FUSED) ;;
  esac
  case $2 in
    text) towers+=(model.text.freeze=true) ;;
    vision) towers+=(model.image.freeze=true) ;;
    both) towers+=(model.image.freeze=true model.text.freeze=true) ;;
  esac
  printf '%s\n' "${towers[@]}"
}

towers() { # prefix seed patch [key=value ...]: a picture tower by masked image modelling, a word tower by masked words
  local prefix=$1 seed=$2 patch=$3
  shift 3
  local same=(seed="$seed" steps="$TOWER_STEPS" eval_every="$TOWER_STEPS" batch_size=64 lr=1e-3 flip=false jitter=0
    export_towers=true objectives.itc=0 model.image.model_type=vit "model.image.options={patch_size: $patch, $SHAPE}"
    "model.text.options={$SHAPE}" "$@")
  job "$prefix-pictures-$seed" pretrain-vl "${same[@]}" objectives.mim=1 model.mim_head=true
  job "$prefix-words-$seed" pretrain-vl "${same[@]}" objectives.text_mlm=1 model.text_mlm_head=true
}

view_training() { # arm seed run steps
  local arm=$1 seed=$2 run=$3 steps=$4 objectives=(objectives.itc=1 objectives.itm=1 objectives.mlm=1) options
  case $arm in
    itc) objectives=(objectives.itc=1) ;;
    itc-itm) objectives=(objectives.itc=1 objectives.itm=1) ;;
  esac
  mapfile -t options < <(arm_options views "$arm" "$seed" 16)
  # within so few updates hard negatives leave matching at its prior
  job "$run" pretrain-vl views="$VIEWS" seed="$seed" steps="$steps" batch_size=64 lr=1e-3 \
    eval_every="$steps" flip=false jitter=0 objectives.negatives=random "${objectives[@]}" "${options[@]}"
}

view_trial() { # arm seed
  local arm=$1 seed=$2
  view_training "$arm" "$seed" "views-$arm-$seed-training" "$VIEW_STEPS"
  local measured=(views="$VIEWS" split=test queries=500 model="$runs/views-$arm-$seed-training/model")
  job "views-$arm-$seed" evaluate-vl "${measured[@]}"
  [ "$arm" = itc ] || job "views-$arm-$seed-reranked" evaluate-vl "${measured[@]}" rerank=32
}

nlvr_trial() { # arm seed: pretraining on self-made pictures with true sentences, then true and false ones, then people's
  local arm=$1 seed=$2 options frozen=() blind=()
  local human=$SIGHTLINE_DATA/nlvr1 where="device=$DEVICE precision=float32"
  case $arm in
    text) frozen=(freeze_text=true) ;;
    vision) frozen=(freeze_image=true) ;;
    both) frozen=(freeze_image=true freeze_text=true) ;;
    blind) blind=(blind=true) ;;
  esac
  mapfile -t options < <(arm_options nlvr "$arm" "$seed" 16)
  job "nlvr-$arm-$seed-pairs" pretrain-vl $where $STYLE $SIZE seed="$seed" steps="$PAIR_STEPS" batch_size=64 lr=1e-3 \
    eval_every="$PAIR_STEPS" flip=false jitter=0 objectives.itc=0 objectives.itm=1 \
    objectives.negatives=random "${options[@]}"
  job "nlvr-$arm-$seed-style" finetune-vl $where task=nlvr1 eval_every="$STYLE_STEPS" data="$runs/style" \
    model="$runs/nlvr-$arm-$seed-pairs/model" seed="$seed" steps="$STYLE_STEPS" batch_size=64 lr=1e-3 head_factor=1 "${frozen[@]}" "${blind[@]}"
  job "nlvr-$arm-$seed-training" finetune-vl $where task=nlvr1 data="$human" model="$runs/nlvr-$arm-$seed-style/model" \
    train_split=test:train val_split=test:val seed="$seed" steps="$HUMAN_STEPS" batch_size=64 lr=3e-4 head_factor=1 "${blind[@]}"
  job "nlvr-$arm-$seed" evaluate-vl device="$DEVICE" task=nlvr1 data="$human" split=hidden model="$runs/nlvr-$arm-$seed-training/model" \
    "${blind[@]}"
}

make_views() { # of a narrow view, described by few words: long captions would take most of the time
  [ -d "$VIEWS/test" ] && return
  job scenes build-scenes source=procedural
  job all-views render-views scenes="$runs/scenes" train_views=120 val_views=40 test_views=60 fov_deg=40
  "$python" -m benchmarks.short_views "$runs/all-views" "$VIEWS" --words 20
}

make_style() {
  [ -f "$runs/style/pairs-val.jsonl" ] || "$python" -m benchmarks.nlvr_style "$runs/style" --count 20000 --seed 0
}

rows() { # function arms: one line a run
  for seed in $SEEDS; do for arm in $2; do echo "$1 $arm $seed"; done; done
}

export -f arm_options towers view_training view_trial nlvr_trial
side_by_side() { xargs -P "${AT_ONCE:-2}" -L 1 bash -euc '"$@"' _ || echo "some runs failed; start again to go on"; }

for part in $PARTS; do
  case $part in
    views)
      make_views
      for seed in $SEEDS; do echo "towers views $seed 16 views=$VIEWS"; done | side_by_side
      rows view_trial "$VIEW_ARMS" | side_by_side ;;
    nlvr1)
      make_style
      for seed in $SEEDS; do echo "towers nlvr $seed 16 device=$DEVICE precision=float32 $STYLE $SIZE"; done | side_by_side
      rows nlvr_trial "$NLVR_ARMS" | side_by_side ;;
    times) # one after the other, on a machine that does nothing else
      for arm in $VIEW_ARMS; do view_training "$arm" 0 "views-$arm-timing" 24; done ;;
    *) echo "no such part: $part"; exit 1 ;;
  esac
done
"$python" -m benchmarks.vl_arms "$runs" --out "${TABLE:-benchmarks/results/vl_arms.md}"
