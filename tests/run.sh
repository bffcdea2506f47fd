#!/bin/sh
# Builds everything with g++ and runs the tests. Ends with ctest's summary.
#   tests/run.sh         every test but those marked slow
#   tests/run.sh --all   every test
set -eu

usage() { sed -n '2,4s/^# \{0,1\}//p' "$0"; }

all=false
for argument in "$@"; do
  case $argument in
    --all) all=true ;;
    --help|-h) usage; exit 0 ;;
    *) echo "run.sh: unknown option $argument" >&2; usage >&2; exit 2 ;;
  esac
done

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/examples/packages.sh"
# shellcheck disable=SC2086 # a list of packages is meant
install_packages $CHORUS_BUILD_PACKAGES $CHORUS_TEST_PACKAGES
# shellcheck disable=SC2086 # likewise
if $all; then install_packages $CHORUS_SLOW_TEST_PACKAGES; fi

mpi=OFF
if $all; then mpi=ON; fi
cmake -S "$root" -B "$root/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER=g++ -DCHORUS_DEVELOPER_MODE=ON -DCHORUS_SANITIZE= \
  -DCHORUS_WITH_MPI=$mpi >/dev/null
cmake --build "$root/build"
cd "$root/build"
if $all; then
  exec ctest --output-on-failure -j2
fi
exec ctest --output-on-failure -j2 --label-exclude slow
