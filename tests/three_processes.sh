#!/bin/sh
# Three real coordinators on one PostgreSQL server share a task. Each is killed in turn with SIGKILL while it runs a
# cohort, and started again, while clients in processes of their own talk to any of them. The task is completed; no round
# number is used twice; every committed round adds up to what its clients were told; and what a process costs is measured.
#   tests/three_processes.sh PATH_OF_CHORUS
set -eu

chorus=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/postgres_server.sh"
dataset=/usr/share/datasets/fashion-mnist
[ -d $dataset ] || { echo "SKIPPED: install dataset-fashion-mnist"; exit 77; }
work=$(mktemp -d)
chmod 755 "$work"
started=
postgres_pid=
cleanup() {
  for pid in $started; do kill -KILL "$pid" 2>/dev/null || true; done
  [ -z "$postgres_pid" ] || postgres_stop
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*"
  tail -n 15 "$work"/*.log
  exit 1
}
status=0
postgres_start "$work/postgres" || status=$?
[ $status = 0 ] || exit $status

clients=30
rounds=60
"$chorus" split --images $dataset/t10k-images-idx3-ubyte.gz --labels $dataset/t10k-labels-idx1-ubyte.gz \
  --clients $clients --dirichlet 1 --seed 1 --out "$work/data" >/dev/null
"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys client --dir "$work/keys" --count $clients >/dev/null
# They train for long enough that a cohort can be struck in flight.
cat >"$work/task.textproto" <<TASK
name: "shared"
rounds: $rounds
protocol: PROTOCOL_SECAGG
model {
  inputs: 784
  layers { units: 16 activation: ACTIVATION_RELU }
  layers { units: 10 }
}
training { epochs: 60 }
cohort { minimum: 5 target: 5 maximum: 6 parallel: 3 }
deadlines { check_in_ms: 2000 train_ms: 20000 choose_ms: 10000 share_ms: 10000 upload_ms: 10000
            consistency_ms: 10000 unmask_ms: 10000 }
TASK
cat >"$work/policy.textproto" <<'POLICY'
uploads_per_model_max: 0
cohort_min: 5
honest_min: 2
POLICY

serve() {  # NUMBER PORT: without an address to advertise where the port is 0
  number=$1
  port=$2
  rm -f "$work/port$number" "$work/web$number"
  set --
  [ "$port" = 0 ] || set -- --advertise "127.0.0.1:$port"
  "$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --store "$postgres_uri" --verbose \
    --listen "127.0.0.1:$port" "$@" --port-file "$work/port$number" \
    --web :0 --web-port-file "$work/web$number" --until-complete >>"$work/serve$number.log" 2>&1 &
  eval "server$number=$!"
  started="$started $!"
}
await_port() {  # NUMBER
  tries=0
  until [ -s "$work/port$1" ]; do
    tries=$((tries + 1))
    [ $tries -le 600 ] || fail "coordinator $1 did not start"
    sleep 0.1
  done
}
query() { psql -qAt "$postgres_uri" -c "$1"; }
committed() { "$chorus" status --server "127.0.0.1:$1" --tls-authority "$work/keys/tls-authority.pem" --rounds 0 |
  sed -n 's/^task [^:]*: \([0-9]*\) of.*/\1/p'; }
await_commit() {  # PORT COMPLAINT: one round more
  before=
  tries=0
  while
    now=$(committed "$1")
    : "${before:=$now}"
    [ -z "$now" ] || [ "$now" -le "$before" ]
  do
    tries=$((tries + 1))
    [ $tries -le 300 ] || fail "$2"
    sleep 0.3
  done
}
began() { grep -c 'round began' "$work/serve$1.log" || true; }
# Clients choose a process by their certificates, which are drawn: once in a hundred runs or so one has too few.
await_cohort() {  # NUMBER: that it begins one, or has not for 15 s
  before=$(began "$1")
  tries=0
  until [ "$(began "$1")" -gt "$before" ]; do
    tries=$((tries + 1))
    [ $tries -le 300 ] || return 0
    sleep 0.05
  done
}

# --- what a process costs ---
ticks=$(getconf CLK_TCK)
cost() {  # NUMBER: its milliseconds of processor time, and its peak memory in kB
  eval "of=\$server$1"
  cpu=$(awk -v ticks="$ticks" '{ sub(/.*\) /, ""); printf "%d", ($12 + $13) * 1000 / ticks }' "/proc/$of/stat" 2>/dev/null) || return 1
  peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$of/status" 2>/dev/null) || return 1
  [ -n "$cpu" ] && [ -n "$peak" ] && echo "$cpu $peak"
}
series() {  # NUMBER: its metrics
  curl -sf --max-time 5 "http://127.0.0.1:$(cat "$work/web$1")/metrics" 2>/dev/null
}
# How often the process ran transactions of this name, by a page of its metrics.
transactions() {  # PAGE NAME
  sed -n "s/^chorus_store_transaction_duration_seconds_count{[^}]*name=\"$2\"[^}]*} \([0-9]*\)$/\1/p" "$1" |
    awk '{ sum += $1 } END { print sum + 0 }'
}
# Notes the processes' costs so far as $work/costN.WHEN and $work/metricsN.WHEN; keeps the old where one has ended.
note() {  # WHEN
  for number in 1 2 3; do
    cost $number >"$work/now" && mv "$work/now" "$work/cost$number.$1"
    series $number >"$work/now" && mv "$work/now" "$work/metrics$number.$1"
  done
  return 0
}
for number in 1 2 3; do
  serve $number 0
  await_port $number
  eval "port$number=$(cat "$work/port$number")"
  # Once more at the port that it was given, which it can advertise.
  eval "kill -TERM \$server$number; wait \$server$number" || true
  eval "serve $number \$port$number"
  await_port $number
done
servers="127.0.0.1:$port1,127.0.0.1:$port2,127.0.0.1:$port3"
client=0
joined=
while [ $client -lt $clients ]; do
  name=$(printf 'client-%03d' $client)
  "$chorus" train --data "$work/data/$name" --keys "$work/keys/clients/$name" --server "$servers" \
    --state "$work/devices-$name" --policy "$work/policy.textproto" >"$work/$name.log" 2>&1 &
  joined="$joined $!"
  started="$started $!"
  client=$((client + 1))
done

# Each in turn, at another place in a cohort of its own each time. Somebody else says how far the task is.
ask=2
struck=
for victim in 1 2 3; do
  eval "port=\$port$ask"
  await_commit "$port" "no round was committed within a minute and more"
  await_cohort $victim
  sleep "0.$(printf %02d $(((victim - 1) * 5)))"
  eval "pid=\$server$victim"
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
  round=$(sed -n 's/.*round began round=\([0-9]*\) .*/\1/p' "$work/serve$victim.log" | tail -n 1)
  struck="$struck $round"
  echo "killed coordinator $victim in round $round, after $(committed "$port") rounds"
  # The others commit without it before it comes back.
  await_commit "$port" "the others did not go on without coordinator $victim"
  eval "back=\$port$victim"
  serve $victim "$back"
  await_port $victim
  ask=$victim
  [ $victim != 1 ] || "$chorus" status --server "127.0.0.1:$port2" --tls-authority "$work/keys/tls-authority.pem" --rounds 3
done

# From here on all three run undisturbed, and are measured.
await_commit "$port1" "no round was committed once all were back"
note back
since=$(date +%s%3N)
rounds_before=$(committed "$port1")
alive() {
  for number in 1 2 3; do
    eval "kill -0 \$server$number 2>/dev/null" || return 1
  done
}
tries=0
while alive; do
  tries=$((tries + 1))
  [ $tries -le 720 ] || fail "the task was not completed within five minutes"
  note end
  until=$(date +%s%3N)
  sleep 0.4
done
for number in 1 2 3; do
  eval "pid=\$server$number"
  tries=0
  while kill -0 "$pid" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -le 1800 ] || fail "the task was not completed within three minutes"
    sleep 0.1
  done
  wait "$pid" || fail "coordinator $number ended with an error"
done

# A client's log is whole once it has ended. One that nobody could tell of the end asks on, and has told all it knows.
tries=0
for pid in $joined; do
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 300 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
done

# What each process has told of its rounds is in the logs; what happened is in the store.
"$chorus" export --store "$postgres_uri" --task shared --out "$work/model.chm" >"$work/export.log" 2>&1 ||
  fail "the model cannot be exported"
grep -q "after $rounds rounds" "$work/export.log" || fail "the model is not that of $rounds rounds"
for number in 1 2 3; do
  twice=$(sed -n 's/^round *\([0-9][0-9]*\):.*/\1/p' "$work/serve$number.log" | sort -n | uniq -d)
  [ -z "$twice" ] || fail "coordinator $number told of a round twice: $twice"
done
# Whatever process tells of a round tells the same.
cat "$work"/serve?.log | grep '^round' | sort -u >"$work/told.log"
twice=$(sed -n 's/^round *\([0-9][0-9]*\):.*/\1/p' "$work/told.log" | sort -n | uniq -d)
[ -z "$twice" ] || fail "two coordinators tell different things of a round: $twice"
cat "$work/told.log"
# A round's report against what its clients saw: everybody who was told that he contributed had uploaded, once, and is in
# the sum; nobody else is but those who uploaded and could not be told, for their coordinator was killed.
said() { cat "$work"/client-*.log | grep -c "^round $1: $2\$" || true; }
for log in "$work"/client-*.log; do
  twice=$(grep -E '^round [0-9]+: (uploaded|contributed)$' "$log" | sort | uniq -d)
  [ -z "$twice" ] || fail "a client gave to a round twice: $twice"
done
sed -n 's/^round *\([0-9]*\): \(aborted\)\{0,1\}.* \([0-9]*\)\/[0-9]* contributed.*/\1 \2- \3/p' "$work/told.log" >"$work/sums"
[ "$(wc -l <"$work/sums")" = "$(wc -l <"$work/told.log")" ] || fail "a line of a round cannot be read"
in_all=0
while read -r round state contributors; do
  uploaded=$(said "$round" uploaded)
  told=$(said "$round" contributed)
  [ "$state" = - ] || [ "$told" = 0 ] || fail "round $round was aborted, and $told clients were told that they contributed"
  [ "$told" -le "$contributors" ] && [ "$contributors" -le "$uploaded" ] ||
    fail "round $round has $contributors contributors; $uploaded uploaded, and $told were told that they contributed"
  case " $struck " in
    *" $round "* | *" $((round + 1)) "*) ;;
    *) [ "$state" != - ] || [ "$told" = "$contributors" ] ||
         fail "round $round, which nobody disturbed, has $contributors contributors, and $told were told" ;;
  esac
  in_all=$((in_all + contributors))
done <"$work/sums"
# What a kill costs: the cohorts of the killed, or the whole round where it had no others.
lost=0
for round in $struck; do
  line=$(grep "^round *$round:" "$work/told.log")
  of=$(echo "$line" | sed -n 's/.*sums of \([0-9]*\/[0-9]*\) cohorts.*/\1/p')
  case $line in *": aborted"*) of=none ;; esac
  [ "${of%/*}" = "${of#*/}" ] && [ "$of" != none ] || lost=$((lost + 1))
  echo "round $round, in which one was killed: sums of ${of:-1/1}"
done
[ $lost -ge 1 ] || fail "no kill struck a cohort in flight"
echo "$in_all contributions in $(grep -c ' - ' "$work/sums") committed rounds, each of a client that uploaded once"
left=$(query "select count(*) from chorus.cohort" 2>/dev/null || echo unknown)
[ "$left" = 0 ] || [ "$left" = unknown ] || fail "$left cohorts are left in the store"
if [ -s "$work/metrics3.back" ] && [ -s "$work/metrics3.end" ]; then
  measured=$((rounds - rounds_before))
  echo "measured over $measured rounds in $(((until - since + 500) / 1000)) s, all three running:"
  for number in 1 2 3; do
    read -r cpu_before peak <"$work/cost$number.back"
    read -r cpu peak <"$work/cost$number.end"
    line=
    for name in "begin round" "end cohort" "commit round" look; do
      count=$(($(transactions "$work/metrics$number.end" "$name") - $(transactions "$work/metrics$number.back" "$name")))
      [ "$name" != "end cohort" ] || cohorts=$count
      line="$line, $name $count"
    done
    awk -v number=$number -v cpu=$((cpu - cpu_before)) -v peak="$peak" -v cohorts="$cohorts" -v ms=$((until - since)) \
      -v line="$line" 'BEGIN {
        printf "coordinator %d: %d ms of processor time, %.1f MB peak, %d cohorts (%.2f a second); transactions%s\n",
          number, cpu, peak / 1000, cohorts, cohorts * 1000 / ms, substr(line, 2) }'
  done
fi
echo "completed $rounds rounds with three coordinators, each killed once"
