#!/bin/sh
# Teaches a recurrent network to write, from what the roles of plays say: each role is a client and
# keeps its lines to itself. What a game would learn of its players' chat.
#
#   examples/4_next_character.sh TEXT.jsonl[.gz] [--rounds N] [--out DIR]
#
# TEXT has a line for each role: {"role": "JULIET", "speeches": ["...", "..."]}. The last fifth of
# each role's text is for testing; roles with less than about a thousand characters stay out.
set -eu

[ $# -ge 1 ] && [ -f "$1" ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
text=$1 rounds=100 out=next_character
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

# 1. The task: 80 characters are read, and after each the next one is foretold.
cat >"$out/task.textproto" <<TASK
name: "next-character"
rounds: $rounds
model {
  inputs: 81
  layers { kind: LAYER_KIND_EMBEDDING vocabulary: 70 units: 16 }
  layers { kind: LAYER_KIND_GRU units: 128 }
  layers { units: 70 }
  loss: LOSS_NEXT_TOKEN
}
training { epochs: 1 batch_size: 4 learning_rate: 1 gradient_l2_norm_max: 5 }
server { optimizer: SERVER_OPTIMIZER_FEDAVGM beta1: 0.9 }
server_learning_rate: 1
clip { update_l2_norm_max: 20 }
encoding { examples_max: 64 }
protocol: PROTOCOL_SECAGG
cohort { minimum: 10 target: 20 maximum: 20 }
TASK

# 2. The simulation: a client for each role.
"$chorus" simulate --task "$out/task.textproto" \
  --data "$text" --text speeches --user role --partition column --examples-min 10 --seed 1 \
  --test-every 10 --report "$out/report.html" --out "$out/model.chm"

# 3. For a game engine, one character at a time: the network's state goes in and comes out.
"$chorus" export --model "$out/model.chm" --task "$out/task.textproto" \
  --onnx "$out/model.onnx" --gru cell --probabilities
