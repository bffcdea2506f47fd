#!/bin/sh
# Builds a benchmark as it is shipped and runs it. One line a figure; exits 1 when a bar falls short.
#   tests/bench/run.sh secagg   masking, unmasking and folding against AES and memory
set -eu

usage() { sed -n '2,3s/^# \{0,1\}//p' "$0"; }

case ${1:-} in
  --help|-h) usage; exit 0 ;;
esac
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
if [ $# -ne 1 ] || [ ! -f "$root/tests/bench/$1_bench.cc" ]; then
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
exec "$root/build/tests/bench/$1_bench"
