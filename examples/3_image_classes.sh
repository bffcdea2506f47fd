#!/bin/sh
# Teaches a small convolutional network to tell clothes apart, with 100 virtual clients who have
# few kinds of clothes each and show their pictures to nobody. Ends with a report, and with the
# model as ONNX for the inference runtime of a game.
#
#   examples/3_image_classes.sh [--rounds N] [--out DIR]
#
# The pictures are Fashion-MNIST, from Debian's package dataset-fashion-mnist.
set -eu

rounds=40 out=image_classes
while [ $# -gt 1 ]; do
  case $1 in
    --rounds) rounds=$2 ;;
    --out) out=$2 ;;
    *) break ;;
  esac
  shift 2
done
[ $# -eq 0 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/examples/packages.sh"
find_chorus dataset-fashion-mnist
mkdir -p "$out"

# 1. The task: the network, how clients train it, and that only sums of their updates are seen.
cat >"$out/task.textproto" <<TASK
name: "image-classes"
rounds: $rounds
model {
  inputs: 784
  shape: [28, 28, 1]
  layers { kind: LAYER_KIND_CONV2D units: 8 kernel: 5 stride: 2 padding: PADDING_SAME activation: ACTIVATION_RELU }
  layers { kind: LAYER_KIND_CONV2D units: 16 kernel: 3 stride: 2 padding: PADDING_SAME activation: ACTIVATION_RELU }
  layers { kind: LAYER_KIND_FLATTEN }
  layers { kind: LAYER_KIND_DROPOUT rate: 0.1 }
  layers { units: 10 }
  loss: LOSS_CROSS_ENTROPY
}
training { epochs: 3 batch_size: 10 learning_rate: 0.05 }
clip { update_l2_norm_max: 10 }
protocol: PROTOCOL_SECAGG
cohort { minimum: 10 target: 20 maximum: 24 over_selection_percent: 10 }
TASK

# 2. The simulation: pictures dealt out unevenly, one client in twenty lost in each step.
"$chorus" simulate --task "$out/task.textproto" \
  --data /usr/share/datasets/fashion-mnist --examples 10000 \
  --partition dirichlet --alpha 0.5 --clients 100 --examples-min 10 \
  --devices lognormal --dropout 0.05 --seed 1 \
  --report "$out/report.html" --out "$out/model.chm"

# 3. The model for a game engine.
"$chorus" export --model "$out/model.chm" --task "$out/task.textproto" \
  --onnx "$out/model.onnx" --probabilities
