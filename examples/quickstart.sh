#!/bin/sh
# Trains a classifier of clothes with many clients, none of whose data leaves it, on this machine:
# builds Chorus, splits Fashion-MNIST unevenly over the clients, starts a coordinator and a process
# for each client, kills some clients in the middle of a round, and shows that training goes on.
#
#   examples/quickstart.sh [options]
#     --clients N       how many clients, 5 to 128          (20)
#     --rounds N        how many rounds                     (10)
#     --protocol P      secagg: the coordinator reads only sums;
#                       one_shot: likewise, with clients that hang up once they have
#                       uploaded, and a committee of four processes that open the sum
#                       (experimental);
#                       plain: it reads every update        (secagg)
#     --drop N          clients killed in mid-round         (2)
#     --seed N          of the split, the first weights and the order of training;
#                       with --drop 0 equal seeds give equal models  (1)
#     --hidden N        units of the hidden layer           (128)
#     --work DIR        folder for data, keys and results; must be new or empty
#                                                           (build/quickstart-XXXX)
#     --help
#
# The last line is the accuracy on the 10,000 test images, for example "accuracy 0.8123".
set -eu

usage() { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//p}' "$0"; }
fail() {
  echo "quickstart.sh: $*" >&2
  exit 1
}
wrong() {
  echo "quickstart.sh: $*; see --help" >&2
  exit 2
}

clients=20 rounds=10 protocol=secagg drop=2 seed=1 hidden=128 work=
while [ $# -gt 0 ]; do
  case $1 in
    --help|-h) usage; exit 0 ;;
    --clients|--rounds|--drop|--seed|--hidden|--protocol|--work)
      [ $# -ge 2 ] || wrong "$1 needs a value" ;;
    *) wrong "unknown option $1" ;;
  esac
  case $1 in
    --protocol)
      case $2 in
        plain|secagg|one_shot) ;;
        *) wrong "--protocol is plain, secagg or one_shot" ;;
      esac ;;
    --work) [ -n "$2" ] || wrong "--work needs a folder" ;;
    *) case $2 in ''|*[!0-9]*|??????????*) wrong "$1 needs a whole number" ;; esac ;;
  esac
  case $1 in
    --clients) clients=$2 ;;
    --rounds) rounds=$2 ;;
    --protocol) protocol=$2 ;;
    --drop) drop=$2 ;;
    --seed) seed=$2 ;;
    --hidden) hidden=$2 ;;
    --work) work=$2 ;;
  esac
  shift 2
done
[ "$clients" -ge 5 ] && [ "$clients" -le 128 ] || wrong "--clients must be 5 to 128"
[ "$rounds" -ge 1 ] || wrong "--rounds must be at least 1"
[ "$hidden" -ge 1 ] || wrong "--hidden must be at least 1"
[ $((clients - drop)) -ge 5 ] || wrong "at least 5 clients must be left after --drop"

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/examples/packages.sh"
# shellcheck disable=SC2086 # a list of packages is meant
install_packages $CHORUS_BUILD_PACKAGES dataset-fashion-mnist

# --- build ---------------------------------------------------------------------------------------
# A build folder that is there already, from tests/run.sh say, is used as it is.
if [ ! -f "$root/build/build.ninja" ]; then
  echo "Configuring build/"
  cmake -S "$root" -B "$root/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_COMPILER=g++ \
    -DCHORUS_DEVELOPER_MODE=OFF >/dev/null
fi
echo "Building build/chorus"
cmake --build "$root/build" --target chorus
chorus=$root/build/chorus

# --- everything that is started is stopped -------------------------------------------------------
started=
stop_all() {
  # shellcheck disable=SC2086 # a list of process ids is meant
  for signal in TERM KILL; do
    for pid in $started; do kill -$signal "$pid" 2>/dev/null || true; done
    [ $signal = TERM ] || break
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      left=false
      for pid in $started; do
        if kill -0 "$pid" 2>/dev/null; then left=true; fi
      done
      $left || break 2
      sleep 0.1
    done
  done
  for pid in $started; do wait "$pid" 2>/dev/null || true; done
  started=
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- data, keys, task, policy --------------------------------------------------------------------
if [ -z "$work" ]; then
  work=$(mktemp -d "$root/build/quickstart-XXXX")
else
  mkdir -p "$work"
  [ -z "$(ls -A "$work")" ] || fail "the folder $work is not empty; name another with --work"
  work=$(CDPATH='' cd -- "$work" && pwd)
fi
dataset=/usr/share/datasets/fashion-mnist
echo "Working in $work"
"$chorus" split --images "$dataset/train-images-idx3-ubyte.gz" \
  --labels "$dataset/train-labels-idx1-ubyte.gz" --clients "$clients" --dirichlet 0.3 \
  --seed "$seed" --out "$work/data"
mkdir "$work/test"
cp "$dataset/t10k-images-idx3-ubyte.gz" "$dataset/t10k-labels-idx1-ubyte.gz" "$work/test"
"$chorus" keys init --dir "$work/keys"
"$chorus" keys client --dir "$work/keys" --count "$clients"

minimum=$(((clients - drop) * 3 / 5))
[ "$minimum" -ge 5 ] || minimum=5
if [ "$drop" -eq 0 ]; then
  # Nobody is to be cut off, however slow the machine: the same clients take part each time.
  check_in_ms=600000 train_ms=600000 step_ms=300000 hedge_ms=0
else
  # A killed client costs the round it died in one of these waits.
  check_in_ms=3000 train_ms=10000 step_ms=5000 hedge_ms=1000
fi
case $protocol in
  plain) enum=PROTOCOL_PLAIN ;;
  secagg) enum=PROTOCOL_SECAGG ;;
  one_shot) enum=PROTOCOL_ONE_SHOT ;;
esac
cat >"$work/task.textproto" <<TASK
# What every client of this run agrees to. Fields left out take the defaults of chorus/task.h.
name: "quickstart"
rounds: $rounds
protocol: $enum
model {
  inputs: 784
  layers { units: $hidden activation: ACTIVATION_RELU }
  layers { units: 10 }
  loss: LOSS_CROSS_ENTROPY
}
training { epochs: 2 batch_size: 20 learning_rate: 0.05 held_back_percent: 10 }
clip { update_l2_norm_max: 10 }
encoding { bound: 1048576 examples_max: 8192 }
secagg { gamma_ppm: 50000 delta_ppm: 100000 honest_min: 2 }
cohort { minimum: $minimum target: $clients maximum: $clients }
deadlines {
  check_in_ms: $check_in_ms
  train_ms: $train_ms
  choose_ms: $step_ms
  share_ms: $step_ms
  upload_ms: $step_ms
  consistency_ms: $step_ms
  unmask_ms: $step_ms
  hedge_ms: $hedge_ms
}
TASK
cat >"$work/policy.textproto" <<'POLICY'
# No limit on how often this client uploads against one and the same model, so that a round that
# was lost is done again at once. What it costs: a coordinator that makes rounds fail on purpose
# sees one more sum over nearly the same clients each time, and can subtract. The default is 3.
uploads_per_model_max: 0
POLICY
leave=
if [ "$protocol" = one_shot ]; then
  leave=--leave-after-upload
  "$chorus" keys committee --dir "$work/keys" --members 4 >"$work/committee.textproto"
  {
    echo 'experimental: true'
    sed -n '/^one_shot/,/^}/p' "$work/committee.textproto"
  } >>"$work/task.textproto"
  {
    echo '# The protection may be one that nobody outside has reviewed, and these are trusted to open'
    echo '# sums. In earnest they are run by operators who do not all answer to one another.'
    echo 'allow_experimental: true'
    sed -n '/^committee/p' "$work/committee.textproto"
  } >>"$work/policy.textproto"
fi
if [ "$protocol" = plain ]; then
  echo '# The coordinator may read this client'"'"'s updates.' >>"$work/policy.textproto"
  echo 'allow_plain: true' >>"$work/policy.textproto"
fi

# --- coordinator, committee and clients ----------------------------------------------------------
"$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --state "$work/state" \
  --listen 127.0.0.1:0 --port-file "$work/port" --evaluate "$work/test" \
  --curve "$work/curve.svg" --experiment-seed "$seed" --until-complete --verbose \
  2>"$work/serve.log" &
server=$!
started=$server
tries=0
until [ -s "$work/port" ]; do
  kill -0 "$server" 2>/dev/null || { cat "$work/serve.log" >&2; fail "the coordinator did not start"; }
  tries=$((tries + 1))
  [ $tries -le 300 ] || fail "the coordinator did not listen within 30 s; see $work/serve.log"
  sleep 0.1
done
address=127.0.0.1:$(cat "$work/port")

if [ "$protocol" = one_shot ]; then
  for member in 001 002 003 004; do
    "$chorus" committee --keys "$work/keys/committee/member-$member" --server "$address" \
      --policy "$work/policy.textproto" >"$work/member-$member.log" 2>&1 &
    started="$started $!"
  done
fi
client=0
client_pids=
while [ $client -lt "$clients" ]; do
  name=$(printf 'client-%03d' $client)
  "$chorus" train --data "$work/data/$name" --keys "$work/keys/clients/$name" --server "$address" \
    --state "$work/devices/$name" --policy "$work/policy.textproto" --experiment "$seed/$name" \
    $leave >"$work/$name.log" 2>&1 &
  started="$started $!"
  client_pids="$client_pids $!"
  client=$((client + 1))
done

# --- drop clients in mid-round -------------------------------------------------------------------
# In a step of the protocol rather than in training, which takes most of a round, so that the masks of
# the dead have to be taken out; but not later than in the last round but one.
drop_round=3
[ "$rounds" -ge 4 ] || drop_round=$((rounds > 1 ? rounds - 1 : 1))
last_chance=$((rounds - 1 > drop_round ? rounds - 1 : drop_round))
while [ "$drop" -gt 0 ] && kill -0 "$server" 2>/dev/null; do
  seen=$("$chorus" status --server "$address" --tls-authority "$work/keys/tls-authority.pem" \
    --rounds 0 2>/dev/null) || seen=
  begun=$(printf '%s\n' "$seen" | sed -n 's/.* \([0-9][0-9]*\) begun$/\1/p')
  step=$(printf '%s\n' "$seen" | sed -n 's/^step: //p')
  case ${step:-none} in
    none) now=false ;;
    training) [ "${begun:-0}" -ge "$last_chance" ] && now=true || now=false ;;
    *) [ "${begun:-0}" -ge "$drop_round" ] && now=true || now=false ;;
  esac
  if $now; then
    victims=0
    for pid in $client_pids; do
      [ $victims -lt "$drop" ] || break
      kill -KILL "$pid" 2>/dev/null || true
      victims=$((victims + 1))
    done
    # The coordinator may be writing its line of progress on this terminal.
    if [ -t 1 ]; then printf '\r\033[K'; fi
    echo "killed $victims of $clients clients in round $begun, during its step \"$step\""
    break
  fi
  sleep 0.02
done

# --- to the end ----------------------------------------------------------------------------------
# Clients leave when the task is complete, a little before the coordinator; should they be gone for
# longer than that, no round will ever begin.
alone=0
while kill -0 "$server" 2>/dev/null; do
  sleep 1
  left=0
  for pid in $client_pids; do
    if kill -0 "$pid" 2>/dev/null; then left=$((left + 1)); fi
  done
  if [ $left -lt "$minimum" ]; then alone=$((alone + 1)); else alone=0; fi
  [ $alone -lt 15 ] || fail "only $left clients are left, of $minimum that a round needs; see \
$work/client-*.log"
done
served=0
wait "$server" || served=$?
if [ $served -ne 0 ]; then
  cat "$work/serve.log" >&2
  fail "the coordinator ended with exit code $served; logs are in $work"
fi
stop_all
"$chorus" export --state "$work/state" --task quickstart --out "$work/model.chm" \
  --evaluate "$work/test"
