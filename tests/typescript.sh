#!/bin/sh
# The second implementation of the wire, examples/typescript: its own tests, then three of its
# clients in one SecAgg cohort with four of ours, one of them killed in mid-round; it comes back.
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
  timeout 300 npm ci --prefix "$client" --prefer-offline --ignore-scripts --no-audit --no-fund --silent ||
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
  check_in_ms: 30000 train_ms: 60000 choose_ms: 20000 share_ms: 20000 upload_ms: 20000
  consistency_ms: 20000 unmask_ms: 20000 hedge_ms: 0
}
TASK
printf 'uploads_per_model_max: 0\n' >"$work/policy.textproto"

"$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --state "$work/state" \
  --listen 127.0.0.1:0 --port-file "$work/port" --verbose \
  >"$work/serve.out" 2>"$work/serve.log" &
server=$!
started=$server
await() {  # SECONDS WHAT COMMAND...
  tries=$(($1 * 10))
  awaited=$2
  shift 2
  until "$@"; do
    kill -0 "$server" 2>/dev/null || fail "the coordinator ended before $awaited"
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "waited in vain for $awaited"
    sleep 0.1
  done
}
await 60 "its port" test -s "$work/port"
address=localhost:$(cat "$work/port")
for name in client-000 client-001 client-002 client-003; do
  "$chorus" train --data "$work/data/$name" --keys "$work/keys/clients/$name" \
    --server "$address" --state "$work/devices/$name" --policy "$work/policy.textproto" \
    >"$work/$name.log" 2>&1 &
  started="$started $!"
done
join() {  # NAME PROGRAM
  node "$2" --data "$work/data/$1" --keys "$work/keys/clients/$1" --server "$address" \
    --state "$work/devices/$1" --uploads-per-model 0 >>"$work/$1.log" 2>&1 &
  joined=$!
  started="$started $joined"
}
for name in client-004 client-005; do join "$name" "$client/build/src/main.js"; done
# One is killed between its shares and its masked input, so that its masks must be opened: where the
# ledger would be written, in a round after the first. No signal from outside is as punctual.
cat >"$work/victim.mjs" <<VICTIM
import { writeFileSync } from "node:fs";
import { Ledger } from "$client/build/src/ledger.js";
const note = Ledger.prototype.note;
Ledger.prototype.note = function (task, round, model) {
  if (round >= 2n) {
    writeFileSync("$work/struck", String(round));
    process.kill(process.pid, "SIGKILL");
  }
  note.call(this, task, round, model);
};
await import("$client/build/src/main.js");
VICTIM
join client-006 "$work/victim.mjs"
victim=$joined
gone() { ! kill -0 "$victim" 2>/dev/null; }
await 180 "the end of the victim" gone
[ -s "$work/struck" ] || fail "client-006 ended before it was killed"
struck=$(cat "$work/struck")
join client-006 "$client/build/src/main.js"
for name in client-004 client-005 client-006; do
  await 240 "the word to $name that the task is complete" grep -q '^complete' "$work/$name.log"
done
kill -TERM "$server"
wait "$server" || fail "the coordinator failed"
for name in client-004 client-005; do
  counted=$(grep -c ': counted' "$work/$name.log" || true)
  [ "$counted" -ge 4 ] || fail "$name was counted in $counted rounds of 4"
done
grep -q 'contributors=7' "$work/serve.log" || fail "no round had all seven clients"
grep -q "round began round=$struck invited=7 " "$work/serve.log" ||
  fail "round $struck, in which one was killed, did not begin with all seven clients"
grep -q "round ended round=$struck code=0 contributors=6 " "$work/serve.log" ||
  fail "round $struck was not committed without the client that was killed"
echo "ok: $(grep -c 'round ended' "$work/serve.log") rounds of both implementations"
