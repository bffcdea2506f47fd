#!/bin/sh
# Kills a real coordinator with SIGKILL in the middle of rounds, and clients with it, and starts them again on the same
# state: the task is completed all the same, round numbers are never used twice, and the model is that of the rounds
# that were committed.
#   tests/kill_coordinator.sh PATH_OF_CHORUS
set -eu

chorus=$1
dataset=/usr/share/datasets/fashion-mnist
[ -d $dataset ] || { echo "SKIPPED: install dataset-fashion-mnist"; exit 77; }
work=$(mktemp -d)
started=
cleanup() {
  for pid in $started; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*"
  tail -n 20 "$work"/*.log
  exit 1
}

clients=6
"$chorus" split --images $dataset/t10k-images-idx3-ubyte.gz --labels $dataset/t10k-labels-idx1-ubyte.gz \
  --clients $clients --dirichlet 1 --seed 1 --out "$work/data" >/dev/null
"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys client --dir "$work/keys" --count $clients >/dev/null
cat >"$work/task.textproto" <<'TASK'
name: "killed"
rounds: 8
protocol: PROTOCOL_SECAGG
model {
  inputs: 784
  layers { units: 64 activation: ACTIVATION_RELU }
  layers { units: 10 }
}
cohort { minimum: 5 target: 6 maximum: 6 }
deadlines { check_in_ms: 2000 train_ms: 10000 choose_ms: 5000 share_ms: 5000 upload_ms: 5000
            consistency_ms: 5000 unmask_ms: 5000 }
TASK
echo 'uploads_per_model_max: 0' >"$work/policy.textproto"

serve() {  # PORT
  "$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --state "$work/state" \
    --listen "127.0.0.1:$1" --port-file "$work/port" --until-complete >>"$work/serve.log" 2>&1 &
  server=$!
  started="$started $server"
}
join() {  # CLIENT
  name=$(printf 'client-%03d' "$1")
  "$chorus" train --data "$work/data/$name" --keys "$work/keys/clients/$name" \
    --server "127.0.0.1:$port" --state "$work/devices/$name" --policy "$work/policy.textproto" \
    >>"$work/$name.log" 2>&1 &
  client_pid=$!
  started="$started $client_pid"
}
rounds() { grep -c '^round' "$work/serve.log" || true; }
await_rounds() {  # COUNT
  tries=0
  until [ "$(rounds)" -ge "$1" ]; do
    tries=$((tries + 1))
    [ $tries -le 600 ] || fail "no $1 rounds within a minute"
    sleep 0.1
  done
}

serve 0
tries=0
until [ -s "$work/port" ]; do
  tries=$((tries + 1))
  [ $tries -le 300 ] || fail "the coordinator did not start"
  sleep 0.1
done
port=$(cat "$work/port")
client=0
while [ $client -lt $clients ]; do
  join $client
  victim=$client_pid
  client=$((client + 1))
done

# Thrice, at another place in a round each time; the last client dies with it once and comes back.
for pause in 0.05 0.25 0.6; do
  await_rounds $(($(rounds) + 1))
  sleep $pause
  kill -KILL "$server"
  if [ $pause = 0.25 ]; then
    kill -KILL "$victim"
    join $((clients - 1))
  fi
  wait "$server" 2>/dev/null || true
  serve "$port"
  sleep 0.5
done

tries=0
while kill -0 "$server" 2>/dev/null; do
  tries=$((tries + 1))
  [ $tries -le 1200 ] || fail "the task was not completed within two minutes"
  sleep 0.1
done
wait "$server" || fail "the coordinator ended with an error"
committed=$(grep -c '^round .*contributed' "$work/serve.log")
numbers=$(sed -n 's/^round *\([0-9][0-9]*\):.*/\1/p' "$work/serve.log")
[ "$(printf '%s\n' "$numbers" | sort -n | uniq -d)" = "" ] || fail "a round's number was used twice"
printf '%s\n' "$numbers" | sort -n -c || fail "rounds went back"
"$chorus" export --state "$work/state" --task killed --out "$work/model.chm" >"$work/export.log" ||
  fail "the model cannot be exported"
grep -q 'after 8 rounds' "$work/export.log" || fail "the model is not that of 8 rounds"
echo "completed with $committed reported rounds after three kills"
