#!/usr/bin/env bash
# Does learning with subgoals pay? Door-key in MiniGrid, and FollowInstruction in unseen homes on object tokens, at equal
# environment steps, every arm with the same demonstrations first: PPO on the goal, with the same divergence to the
# reference, with a subgoal bonus, told its subgoals and nothing else, DigiRL's filtered advantage, VSC-RL with the exact
# KL, in its imitation form, with subgoals in another order; in homes also with subgoals read from the sentence, and with
# judges wrong 10 and 30 % of the time. Three seeds, two runs side by side, one thread each. The table is
# benchmarks/results/subgoal_arms.md. About 75 minutes on 2 cores for both parts, homes and grounder at hand. Stopped and
# started again, it goes on where it was. Not run: vsc-released (ARMS=vsc-released).
#
# Further arms, with a table of their own: demonstrations replayed while the policy acts (ppo-replay, vsc-replay), and in
# homes a language model as the reference (vsc-language), warmed up on the oracle's turns unless WALKER=MODEL is at hand.
#
#   benchmarks/subgoal_arms.sh
#   SEEDS="0 1 2" PARTS="grid homes" ARMS="ppo vsc" RUNS=FOLDER TABLE=FILE          choices
#   GRID=doorkey-6x6 GRID_STEPS= GRID_SHOWN= HOME_STEPS= HOME_SHOWN= EPISODES=                                sizes
#   SCENES=FOLDER GROUNDER=MODEL WALKER=MODEL                                             homes and models at hand
#   ARMS="ppo ppo-replay vsc vsc-replay" MORE=vsc-language TABLE=benchmarks/results/subgoal_replay.md benchmarks/subgoal_arms.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export sightline=${SIGHTLINE:-.venv/bin/sightline} python=${PYTHON:-.venv/bin/python} runs=${RUNS:-runs/subgoal_arms}
export GRID=${GRID:-doorkey-8x8} GRID_STEPS=${GRID_STEPS:-120000} GRID_SHOWN=${GRID_SHOWN:-1024}
export HOME_STEPS=${HOME_STEPS:-50000} HOME_SHOWN=${HOME_SHOWN:-4096}
export EPISODES=${EPISODES:-300} TASK=follow_instruction REPLAY=${REPLAY:-0.1}
SEEDS=${SEEDS:-0 1 2} PARTS=${PARTS:-grid homes}
given=${ARMS:+ARMS=\"$ARMS\" }${MORE:+MORE=\"$MORE\" }
ARMS=${ARMS:-ppo ppo-divergence ppo-bonus ppo-told digirl vsc vsc-imitation vsc-shuffled}
mkdir -p "$runs"

source benchmarks/job.sh

options_of() { # arm
  case $1 in
    ppo-replay) echo "vsc.objective=ppo vsc.replay=$REPLAY" ;;
    vsc-replay) echo "vsc.objective=vsc vsc.replay=$REPLAY" ;;
    vsc-language) echo "vsc.objective=vsc vsc.reference=$WALKER" ;;
    vsc-sentence) echo "vsc.objective=vsc vsc.subgoals=sentence" ;;
    vsc-shuffled) echo "vsc.objective=vsc vsc.shuffled=true" ;;
    vsc-wrong-10) echo "vsc.objective=vsc vsc.judge_miss=0.1 vsc.judge_false=0.1" ;;
    vsc-wrong-30) echo "vsc.objective=vsc vsc.judge_miss=0.3 vsc.judge_false=0.3" ;;
    *) echo "vsc.objective=$1" ;;
  esac
}

in_grid() { # arm seed
  job "$GRID-$1-$2" train-grid-agent task="$GRID" seed="$2" total_steps="$GRID_STEPS" vsc.demonstration_steps="$GRID_SHOWN" \
    $(options_of "$1")
}

in_homes() { # arm seed
  local drawn=(scenes="$SCENES" task="$TASK" split=test episodes="$EPISODES")
  local same=(episode_set="$runs/$TASK-oracle/episode_set.parquet" seed="$2")
  case $1 in
    oracle) job "$TASK-oracle" evaluate-agent "${drawn[@]}" policy=oracle; return ;;
    random) job "$TASK-random-$2" evaluate-agent "${drawn[@]}" "${same[@]}" policy=random; return ;;
  esac
  job "$TASK-$1-$2-training" train-agent scenes="$SCENES" task="$TASK" seed="$2" total_steps="$HOME_STEPS" \
    features=grounder grounder="$GROUNDER" val_episodes=0 algorithm=vsc vsc.demonstration_steps="$HOME_SHOWN" $(options_of "$1")
  job "$TASK-$1-$2" evaluate-agent "${drawn[@]}" "${same[@]}" policy="$runs/$TASK-$1-$2-training/policy"
}

export -f options_of in_grid in_homes
side_by_side() { xargs -P "${AT_ONCE:-2}" -L 1 bash -euc '"$@"' _ || echo "some runs failed; start again to go on"; }
rows() { # function arms: one line a run
  for seed in $SEEDS; do for arm in $2; do echo "$1 $arm $seed"; done; done
}

for part in $PARTS; do
  case $part in
    grid) rows in_grid "$ARMS" | side_by_side ;;
    homes)
      [ -n "${SCENES:-}" ] || { SCENES=$runs/scenes; job scenes build-scenes source=procedural; }
      [ -n "${GROUNDER:-}" ] || { GROUNDER=$runs/grounder/model; job grounder pretrain-grounding scenes="$SCENES"; }
      case " $ARMS ${MORE:-} " in
        *" vsc-language "*)
          [ -n "${WALKER:-}" ] || { WALKER=$runs/walker/model; job walker train-reasoner environment.scenes="$SCENES" \
            environment.task="$TASK" reasoner_recipe=sft oracle_episodes=100 epochs=2; } ;;
      esac
      export SCENES GROUNDER WALKER=${WALKER:-}
      echo "in_homes oracle 0" | side_by_side
      rows in_homes "$ARMS ${MORE:-vsc-sentence vsc-wrong-10 vsc-wrong-30 random}" | side_by_side ;;
    *) echo "no such part: $part"; exit 1 ;;
  esac
done
"$python" -m benchmarks.subgoal_arms "$runs" --grid "$GRID" --command "${given}benchmarks/subgoal_arms.sh" --out "${TABLE:-benchmarks/results/subgoal_arms.md}"
