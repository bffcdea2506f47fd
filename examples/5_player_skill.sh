#!/bin/sh
# Estimates a player's league from telemetry of one match, such as actions per minute and reaction
# times. Every player is a client with a single example: their row.
#
#   examples/5_player_skill.sh SkillCraft1_Dataset.csv [--rounds N] [--out DIR]
#
# The table is UCI's SkillCraft1 (https://archive.ics.uci.edu/dataset/272). One player in five is
# kept for testing alone.
set -eu

[ $# -ge 1 ] && [ -f "$1" ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
table=$1 rounds=60 out=player_skill
shift
while [ $# -gt 1 ]; do
  case $1 in
    --rounds) rounds=$2 ;;
    --out) out=$2 ;;
    *) break ;;
  esac
  shift 2
done
[ $# -eq 0 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/examples/packages.sh"
find_chorus
mkdir -p "$out"

# 1. The task. One step on one row: a client gives its gradient, hidden in a sum over forty.
cat >"$out/task.textproto" <<TASK
name: "player-skill"
rounds: $rounds
model {
  inputs: 18
  layers { units: 7 }
  loss: LOSS_CROSS_ENTROPY
}
training { steps: 1 batch_size: 1 learning_rate: 0.1 held_back_percent: 0 }
server { optimizer: SERVER_OPTIMIZER_FEDADAM }
server_learning_rate: 0.02
clip { update_l2_norm_max: 2 }
encoding { examples_max: 16 }
protocol: PROTOCOL_SECAGG
cohort { minimum: 20 target: 40 maximum: 44 over_selection_percent: 10 }
TASK

# 2. The simulation. Columns are found by name; numbers are scaled to mean 0 and deviation 1.
"$chorus" simulate --task "$out/task.textproto" \
  --data "$table" --label LeagueIndex --user GameID --partition column --test-clients 20 \
  --missing '?' --when-missing skip --standardise train \
  --dropout 0.02 --seed 1 --test-every 10 \
  --report "$out/report.html" --out "$out/model.chm"

# 3. The model for a game engine.
"$chorus" export --model "$out/model.chm" --task "$out/task.textproto" \
  --onnx "$out/model.onnx" --probabilities
