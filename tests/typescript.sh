#!/bin/sh
# The second implementation of the wire, examples/typescript: its own tests, then three of its
# clients in one SecAgg cohort with four of ours, one of them killed in mid-round.
#   tests/typescript.sh CHORUS
# CHORUS is the built tool. Ends with 77 (skipped) where node, npm, what npm fetches or the dataset
# are missing.
set -eu

chorus=$1
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
client=$root/examples/typescript
dataset=/usr/share/datasets/fashion-mnist
skip() { echo "SKIPPED: $*"; exit 77; }
command -v node >/dev/null 2>&1 || skip "node is not installed"
command -v npm >/dev/null 2>&1 || skip "npm is not installed"
[ -d "$dataset" ] || skip "the package dataset-fashion-mnist is not installed"
if [ ! -d "$client/node_modules/typescript" ]; then
  npm ci --prefix "$client" --ignore-scripts --no-audit --no-fund --silent ||
    skip "npm could not fetch what the client needs"
fi
npm test --prefix "$client" --silent >/dev/null || {
  npm test --prefix "$client"
  exit 1
}

work=$(mktemp -d)
started=
finish() {
  for pid in $started; do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
fail() {
  echo "$*" >&2
  tail -n 30 "$work"/*.log >&2
  exit 1
}

"$chorus" split --images "$dataset/t10k-images-idx3-ubyte.gz" \
  --labels "$dataset/t10k-labels-idx1-ubyte.gz" --clients 7 --dirichlet 0.5 --seed 1 \
  --out "$work/data" >/dev/null
"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys client --dir "$work/keys" --count 7 >/dev/null
cat >"$work/task.textproto" <<'TASK'
name: "two-implementations"
rounds: 4
protocol: PROTOCOL_SECAGG
model {
  inputs: 784
  layers { units: 16 activation: ACTIVATION_TANH }
  layers { units: 10 }
  loss: LOSS_CROSS_ENTROPY
}
training { epochs: 2 batch_size: 20 learning_rate: 0.05 held_back_percent: 10 }
clip { update_l2_norm_max: 5 }
encoding { bound: 1048576 examples_max: 4096 }
secagg { gamma_ppm: 10000 delta_ppm: 100000 honest_min: 2 }
cohort { minimum: 5 target: 7 maximum: 7 }
deadlines {
  check_in_ms: 3000 train_ms: 60000 choose_ms: 4000 share_ms: 4000 upload_ms: 4000
  consistency_ms: 4000 unmask_ms: 4000 hedge_ms: 0
}
TASK
printf 'uploads_per_model_max: 0\n' >"$work/policy.textproto"

"$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --state "$work/state" \
  --listen 127.0.0.1:0 --port-file "$work/port" --until-complete --verbose \
  >"$work/serve.out" 2>"$work/serve.log" &
server=$!
started=$server
until [ -s "$work/port" ]; do
  kill -0 "$server" 2>/dev/null || fail "the coordinator did not start"
  sleep 0.1
done
address=localhost:$(cat "$work/port")
for name in client-000 client-001 client-002 client-003; do
  "$chorus" train --data "$work/data/$name" --keys "$work/keys/clients/$name" \
    --server "$address" --state "$work/devices/$name" --policy "$work/policy.textproto" \
    >"$work/$name.log" 2>&1 &
  started="$started $!"
done
for name in client-004 client-005 client-006; do
  node "$client/build/src/main.js" --data "$work/data/$name" --keys "$work/keys/clients/$name" \
    --server "$address" --state "$work/devices/$name" --uploads-per-model 0 \
    >"$work/$name.log" 2>&1 &
  victim=$!
  started="$started $!"
done
# Killed between its word that it is ready and its masked input, so that its masks must be opened.
until grep -q '^trained round 2' "$work/client-006.log"; do
  kill -0 "$server" 2>/dev/null || fail "the coordinator ended too soon"
  sleep 0.05
done
kill -KILL "$victim"
wait "$server" || fail "the coordinator failed"
for name in client-004 client-005; do
  tries=0
  until grep -q '^complete' "$work/$name.log"; do
    tries=$((tries + 1))
    [ $tries -le 100 ] || fail "$name was not told that the task is complete"
    sleep 0.1
  done
  counted=$(grep -c ': counted' "$work/$name.log" || true)
  [ "$counted" -ge 4 ] || fail "$name was counted in $counted rounds of 4"
done
grep -q 'contributors=7' "$work/serve.log" || fail "no round had all seven clients"
grep -q 'contributors=6' "$work/serve.log" || fail "no round lost the client that was killed"
echo "ok: $(grep -c 'round ended' "$work/serve.log") rounds of both implementations"
