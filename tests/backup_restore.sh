#!/bin/sh
# Takes a backup of a real coordinator while it runs, lets it go on, and restores the backup into a new folder, as
# docs/operating.md says. The clients, whose ledgers know the rounds that the backup does not, complete the task with
# what was restored, and give to no round number twice: neither with the gap that `restore` leaves, nor without one.
#   tests/backup_restore.sh PATH_OF_CHORUS
set -eu

chorus=$1
dataset=/usr/share/datasets/fashion-mnist
[ -d $dataset ] || { echo "SKIPPED: install dataset-fashion-mnist"; exit 77; }
work=$(mktemp -d)
server=
client_pids=
cleanup() {
  for pid in $server $client_pids; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*"
  for log in "$work"/*.log; do echo "--- $log"; tail -n 12 "$log"; done
  exit 1
}

clients=6
rounds=40
"$chorus" split --images $dataset/t10k-images-idx3-ubyte.gz --labels $dataset/t10k-labels-idx1-ubyte.gz \
  --clients $clients --dirichlet 1 --seed 1 --out "$work/data" >/dev/null
"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys client --dir "$work/keys" --count $clients >/dev/null
cat >"$work/task.textproto" <<TASK
name: "restored"
rounds: $rounds
protocol: PROTOCOL_SECAGG
model {
  inputs: 784
  layers { units: 16 activation: ACTIVATION_RELU }
  layers { units: 10 }
}
training { epochs: 8 }
cohort { minimum: 5 target: 6 maximum: 6 }
deadlines { check_in_ms: 500 train_ms: 10000 choose_ms: 5000 share_ms: 5000 upload_ms: 5000
            consistency_ms: 5000 unmask_ms: 5000 }
TASK
echo 'uploads_per_model_max: 0' >"$work/policy.textproto"

serve() {  # FOLDER LEG OPTIONS...
  folder=$1
  leg=$2
  shift 2
  rm -f "$work/port"
  "$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --state "$folder" --models-kept 0 \
    --listen 127.0.0.1:0 --port-file "$work/port" "$@" >"$work/serve-$leg.log" 2>&1 &
  server=$!
  tries=0
  until [ -s "$work/port" ]; do
    kill -0 "$server" 2>/dev/null || fail "the coordinator does not start"
    tries=$((tries + 1))
    [ $tries -le 600 ] || fail "the coordinator did not start within a minute"
    sleep 0.1
  done
  port=$(cat "$work/port")
}
join_all() {  # LEG: with the state that clients have in devices-LEG
  client=0
  client_pids=
  while [ $client -lt $clients ]; do
    name=$(printf 'client-%03d' $client)
    "$chorus" train --data "$work/data/$name" --keys "$work/keys/clients/$name" --server "127.0.0.1:$port" \
      --state "$work/devices-$1/$name" --policy "$work/policy.textproto" >"$work/$name-$1.log" 2>&1 &
    client_pids="$client_pids $!"
    client=$((client + 1))
  done
}
part() {  # the clients leave in good order, so that what they hold on disk is all that they know
  kill -TERM $client_pids
  for pid in $client_pids; do wait "$pid" || true; done
  client_pids=
}
await_committed() {  # COUNT
  tries=0
  until [ "$(grep -c '^round .*contributed' "$work/serve-first.log" || true)" -ge "$1" ]; do
    tries=$((tries + 1))
    [ $tries -le 1200 ] || fail "$1 rounds were not committed within two minutes"
    sleep 0.1
  done
}
given() { cat "$work"/client-*-"$1".log | sed -n 's/^round \([0-9]*\): uploaded$/\1/p' | sort -un; }

# --- a run, a backup in the middle, and rounds that the backup does not know ---
mkdir "$work/devices-first"
serve "$work/first" first
join_all first
await_committed 3
"$chorus" backup --state "$work/first" --to "$work/backup.db" >"$work/backup.log" 2>&1 || fail "no backup"
await_committed $(($(grep -c '^round .*contributed' "$work/serve-first.log") + 4))
kill -TERM "$server"
wait "$server" || true
part
given first >"$work/given-first"
known=$("$chorus" check --store "sqlite:$work/backup.db" | sed -n 's/.* of \([0-9]*\) begun rounds.*/\1/p')
last=$(tail -n 1 "$work/given-first")
[ "$last" -gt "$known" ] || fail "the clients gave to no round after the backup"

# --- what was restored goes on with the same clients ---
restored() {  # LEG OPTIONS OF RESTORE...
  leg=$1
  shift
  cp -r "$work/devices-first" "$work/devices-$leg"
  "$chorus" restore --state "$work/$leg" --from "$work/backup.db" "$@" >"$work/restore-$leg.log" 2>&1 ||
    fail "the backup is not restored"
  serve "$work/$leg" $leg --until-complete
  join_all $leg
  tries=0
  while kill -0 "$server" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -le 2400 ] || fail "the task was not completed within four minutes"
    sleep 0.1
  done
  wait "$server" || fail "the coordinator ended with an error"
  server=
  for pid in $client_pids; do wait "$pid" || fail "a client ended with an error"; done
  client_pids=
  "$chorus" check --state "$work/$leg" >"$work/check-$leg.log" 2>&1 || fail "the restored store is not sound"
  grep -q "^task restored: $rounds committed" "$work/check-$leg.log" || fail "not all rounds are committed"
  given $leg >"$work/given-$leg"
  sort "$work/given-first" >"$work/given-first.sorted"
  sort "$work/given-$leg" >"$work/given-$leg.sorted"
  again=$(comm -12 "$work/given-first.sorted" "$work/given-$leg.sorted")
  [ -z "$again" ] || fail "clients gave again to rounds" $again
}
restored gap
first=$(head -n 1 "$work/given-gap")
[ "$first" = $((known + 1001)) ] || fail "the first round after the restore is $first, not $((known + 1001))"
! grep -q refused "$work"/client-*-gap.log || fail "a client refuses a round although numbers were left out"

restored nogap --skip-rounds 0
grep -q "^round $((known + 1)): refused" "$work"/client-*-nogap.log || fail "no client refuses a round that it gave to"
[ "$(head -n 1 "$work/given-nogap")" -gt "$last" ] || fail "a round was given to that was before"
echo "restored after round $known; rounds to $last were lost, and trained again as others, $(wc -l <"$work/given-gap")" \
  "with a gap and $(wc -l <"$work/given-nogap") without; no number was given to twice"
