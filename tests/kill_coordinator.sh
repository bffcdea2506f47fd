#!/bin/sh
# Kills a real coordinator with SIGKILL at random instants of a real run, and starts it again on the same state. After
# each kill the store must open, every round that was committed must be there and only more of them, the current model
# and every kept one must be whole, and the next round must begin soon after the restart.
#   tests/kill_coordinator.sh PATH_OF_CHORUS [--kills N] [--seed S] [--store sqlite|postgres]
#                             [--within MS]
# The next round must begin within 5 s of the restart, or within MS on a machine that does other things as well.
# The instants are drawn from the seed, which is printed: a phase of a round in turn, and a delay after it began. Ends
# with a table of kills by phase.
set -eu

chorus=$1
shift
kills=20
seed=$(date +%s)
kind=sqlite
limit_ms=5000
while [ $# -gt 0 ]; do
  case $1 in
    --kills) kills=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --store) kind=$2; shift 2 ;;
    --within) limit_ms=$2; shift 2 ;;
    *) echo "kill_coordinator.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
echo "seed $seed, $kills kills, store $kind"

dataset=/usr/share/datasets/fashion-mnist
[ -d $dataset ] || { echo "SKIPPED: install dataset-fashion-mnist"; exit 77; }
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/postgres_server.sh"
work=$(mktemp -d)
chmod 755 "$work"
started=
cleanup() {
  for pid in $started; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  postgres_stop
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED after $kill_count kills: $*"
  tail -n 20 "$work"/*.log
  exit 1
}
kill_count=0

if [ "$kind" = postgres ]; then
  status=0
  postgres_start "$work/postgres" || status=$?
  [ $status = 0 ] || exit $status
  store=$postgres_uri
else
  store="sqlite:$work/coordinator.db"
fi

clients=10
# A device begins 64 rounds a day at most, so that after so many rounds others take its place.
rounds_of_a_crowd=70
crowds=$((kills / 10 + 2))
"$chorus" split --images $dataset/t10k-images-idx3-ubyte.gz --labels $dataset/t10k-labels-idx1-ubyte.gz \
  --clients $clients --dirichlet 1 --seed 1 --out "$work/data" >/dev/null
"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys client --dir "$work/keys" --count $((clients * crowds)) >/dev/null
cat >"$work/task.textproto" <<'TASK'
name: "killed"
rounds: 1000000
protocol: PROTOCOL_SECAGG
model {
  inputs: 784
  layers { units: 64 activation: ACTIVATION_RELU }
  layers { units: 10 }
}
cohort { minimum: 5 target: 6 maximum: 6 }
deadlines { check_in_ms: 1000 train_ms: 10000 choose_ms: 5000 share_ms: 5000 upload_ms: 5000
            consistency_ms: 5000 unmask_ms: 5000 }
TASK
echo 'uploads_per_model_max: 0' >"$work/policy.textproto"

now_ms() { date +%s%3N; }
nap() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }
# A number below $1, drawn from the seed.
random=$((seed % 2147483647))
draw() {
  random=$(((random * 48271 + 11) % 2147483647))
  drawn=$((random % $1))
}

# Processes that share a store know by its address that one was started again; without one they wait for its lease.
serve() {  # PORT
  rm -f "$work/ready"
  [ "$1" = 0 ] || [ "$kind" != postgres ] || set -- "$1" --advertise "127.0.0.1:$1"
  "$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --store "$store" --verbose \
    --listen "127.0.0.1:$@" --port-file "$work/ready" >"$work/serve.log" 2>&1 &
  server=$!
  started="$server $client_pids"
  tries=0
  until [ -s "$work/ready" ]; do
    kill -0 "$server" 2>/dev/null || fail "the coordinator did not start on what the kill left"
    tries=$((tries + 1))
    [ $tries -le 1500 ] || fail "the coordinator did not start within half a minute"
    sleep 0.02
  done
}
client_pids=
join() {  # CLIENT
  name=$(printf 'client-%03d' $((crowd * clients + $1)))
  "$chorus" train --data "$work/data/$(printf 'client-%03d' "$1")" --keys "$work/keys/clients/$name" \
    --server "127.0.0.1:$port" --state "$work/devices/$name" --policy "$work/policy.textproto" \
    >>"$work/$name.log" 2>&1 &
  client_pids="$client_pids $!"
  started="$server $client_pids"
}

# Waits until the coordinator has logged the COUNT-th line of this pattern, at most 30 s.
await() {  # COUNT PATTERN
  rm -f "$work/lines"
  mkfifo "$work/lines"
  tail -n +1 -f --pid="$server" "$work/serve.log" >"$work/lines" 2>/dev/null &
  following=$!
  found=$(timeout 30 grep -m "$1" -c "$2" <"$work/lines" || true)
  kill "$following" 2>/dev/null || true
  wait "$following" 2>/dev/null || true
  [ "$found" = "$1" ] || fail "no $1 lines like \"$2\" within half a minute"
}

# What the coordinator was doing when it died, by the end of its log.
phase() {
  awk '/listening on port/ { phase = "gathering" }
       /round began/ { closed = 0; phase = "training" }
       /step closed/ { closed += 1; phase = "step " closed }
       /round ended/ { phase = "gathering" }
       END { print phase == "" ? "starting" : phase }' "$work/serve.log"
}

# What the tool says of the store that nobody has open: committed, begun and models.
check() {
  "$chorus" check --store "$store" >"$work/check.log" 2>&1 || fail "the store is not sound"
  committed=$(sed -n 's/^task killed: \([0-9]*\) committed.*/\1/p' "$work/check.log")
  begun=$(sed -n 's/.* of \([0-9]*\) begun rounds.*/\1/p' "$work/check.log")
  models=$(sed -n 's/.* \([0-9]*\) models sound.*/\1/p' "$work/check.log")
}

serve 0
port=$(cat "$work/ready")
if [ "$kind" = postgres ]; then
  kill -TERM "$server"
  wait "$server" || true
  serve "$port"
fi
crowd=0
join_all() {
  client=0
  while [ $client -lt $clients ]; do
    join $client
    client=$((client + 1))
  done
}
join_all

committed_before=0
begun_before=0
begun_by_others=0
worst=0
: >"$work/table"
while [ $kill_count -lt "$kills" ]; do
  # A place in the course of things, and a little after it: while it starts, gathers clients, trains,
  # after each step of the protocol, and around the commit, which follows the last of them.
  draw 10
  place=$drawn
  draw 100
  after=$drawn
  case $place in
    0) ;;  # as soon as it listens
    1 | 2) await 1 'round began' && after=$((after * 4)) ;;
    9) await 1 'round ended' ;;
    *) await $((place - 2)) 'step closed' && after=$((after / 4)) ;;
  esac
  nap $after
  kill -KILL "$server" 2>/dev/null || fail "the coordinator ended by itself"
  wait "$server" 2>/dev/null || true
  kill_count=$((kill_count + 1))
  where=$(phase)
  # What it had reported as committed before it died must be there.
  reported=$(grep '^round .*contributed' "$work/serve.log" | grep -vc ': aborted' || true)
  check
  [ "$committed" -ge $((committed_before + reported)) ] ||
    fail "$committed rounds are committed; before there were $committed_before, and $reported were reported"
  [ "$begun" -ge "$begun_before" ] || fail "rounds went back from $begun_before to $begun"
  kept=$((committed < 10 ? committed : 10))
  [ "$models" -ge "$kept" ] || fail "of $committed rounds' models only $models are there"
  committed_before=$committed
  begun_before=$begun
  if [ $((begun - begun_by_others)) -ge $rounds_of_a_crowd ]; then
    kill -TERM $client_pids
    for pid in $client_pids; do wait "$pid" || true; done
    client_pids=
    begun_by_others=$begun
    crowd=$((crowd + 1))
    [ $crowd -lt $crowds ] || fail "there are no more clients"
    join_all
  fi
  restart=$(now_ms)
  serve "$port"
  await 1 'round began'
  took=$(($(now_ms) - restart))
  [ $took -le "$limit_ms" ] || fail "the next round began only $took ms after the restart"
  [ $took -le $worst ] || worst=$took
  echo "$where|$took" >>"$work/table"
done
await 1 'round ended'
kill -KILL "$server"
wait "$server" 2>/dev/null || true
check
[ $((committed * 4)) -ge "$kills" ] || fail "only $committed rounds were ever committed"

echo "killed while         times   worst ms to next round"
awk -F'|' '{ count[$1] += 1; if ($2 > worst[$1]) worst[$1] = $2 }
           END { for (phase in count) printf "%-20s %5d   %d\n", phase, count[phase], worst[phase] }' \
  "$work/table" | sort
echo "$kill_count kills, $committed of $begun rounds committed, nothing lost"
echo "worst $worst ms to the next round"
