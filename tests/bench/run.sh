#!/bin/sh
# Builds a benchmark as it is shipped and runs it. One line a figure; exits 1 when a bar falls short.
#   tests/bench/run.sh secagg   masking, folding and whole sessions against AES and memory; minutes
#   tests/bench/run.sh rounds   the table of docs/performance.md; an hour and more, goes on where it
#                               was interrupted; --quick: cohorts to 192 and vectors to 100,000 only
#   tests/bench/run.sh cohorts  10,000 clients as ten parallel cohorts
#   tests/bench/run.sh one_shot OneShot: client, folding, opening, 10,000 clients in one session;
#                               ten minutes, 5 GB; names of figures after it run only those
#   tests/bench/run.sh embedding  what the client costs a game: size, memory, frames, pauses,
#                               start; two minutes
#   tests/bench/run.sh learning speed of training and simulation, rounds to accuracy on real data
#                               from the folder CHORUS_DATA; seven minutes; names likewise
#   tests/bench/run.sh load     thousands of clients on loopback beside a bare gRPC server: idle,
#                               paced, ingest, check-ins, a round of 1,000; names likewise
#   tests/bench/run.sh soak     half an hour of dropouts, hostile clients and three restarts;
#                               --minutes N shortens it
set -eu

usage() { sed -n '2,16s/^# \{0,1\}//p' "$0"; }

case ${1:-} in
  --help|-h) usage; exit 0 ;;
esac
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
if [ $# -eq 0 ] || [ ! -f "$root/tests/bench/$1_bench.cc" ]; then
  echo "run.sh: name one benchmark of tests/bench" >&2
  usage >&2
  exit 2
fi
. "$root/examples/packages.sh"
# shellcheck disable=SC2086 # a list of packages is meant
install_packages $CHORUS_BUILD_PACKAGES $CHORUS_TEST_PACKAGES

cmake -S "$root" -B "$root/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER=g++ -DCHORUS_DEVELOPER_MODE=ON -DCHORUS_SANITIZE= >/dev/null
cmake --build "$root/build" --target "$1_bench" >/dev/null
name=$1
shift
if [ -z "${CHORUS_DATA:-}" ] && [ -d "$root/../shared/data" ]; then
  CHORUS_DATA=$(cd "$root/../shared/data" && pwd)
  export CHORUS_DATA
fi
if [ "$name" = rounds ]; then set -- "$@" "$root/build/rounds.txt"; fi
exec "$root/build/tests/bench/${name}_bench" "$@"
