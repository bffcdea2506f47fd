#!/bin/sh
# A simulation by two processes that mpirun starts tells the story of one process, to the last bit
# of the model. Usage: simulate_mpi.sh CHORUS. Exits with 77 where there is no mpirun.
set -eu
chorus=$1
command -v mpirun >/dev/null 2>&1 || exit 77
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"

cat >task <<'TASK'
name: "mpi"
model { inputs: 2 layers { units: 6 activation: ACTIVATION_TANH } layers { units: 2 } }
protocol: PROTOCOL_PLAIN
training { epochs: 2 batch_size: 8 learning_rate: 0.3 held_back_percent: 10 }
clip { update_l2_norm_max: 4 }
cohort { minimum: 3 target: 8 maximum: 16 }
rounds: 5
TASK
awk 'BEGIN {
  srand(3); print "a,b,y"
  for (i = 0; i < 600; ++i) { y = i % 2; print y + 2 * rand() - 1 "," 2 * rand() - 1 + y "," y }
}' >data.csv

simulate() {
  name=$1
  shift
  "$@" "$chorus" simulate --task task --data data.csv --label y --clients 20 --seed 4 \
    --dropout 0.1 --loss 0.02 --devices lognormal --threads 2 --quiet \
    --report "$name.html" --out "$name.chm"
  # What was measured, and how the tool was called, may differ.
  python3 - "$name" <<'PYTHON'
import json, sys
def story(value):
    if isinstance(value, dict):
        return {k: story(v) for k, v in value.items() if k not in ("measured", "command")}
    return [story(v) for v in value] if isinstance(value, list) else value
name = sys.argv[1]
json.dump(story(json.load(open(name + ".json"))), open(name + ".story", "w"), sort_keys=True)
PYTHON
}

# A process that cannot begin ends all of them, with an error that says which and why.
cat >without.sh <<'RANK'
[ "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}" = 1 ] && data=missing.csv || data=data.csv
exec "$1" simulate --task task --data $data --label y --clients 20 --quiet
RANK
if timeout 60 mpirun -n 2 --allow-run-as-root --oversubscribe sh without.sh "$chorus" \
  >without.log 2>&1; then
  echo "a process without data is no error" >&2
  exit 1
elif [ $? -eq 124 ] || ! grep -q "process 1: .*missing.csv" without.log; then
  echo "a process without data is not named, or is waited for:" >&2
  cat without.log >&2
  exit 1
fi

simulate one env
simulate two mpirun -n 2 --allow-run-as-root --oversubscribe
cmp one.chm two.chm
cmp one.story two.story
echo "two processes tell the story of one"
