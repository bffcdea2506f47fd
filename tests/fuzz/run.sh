#!/bin/sh
# Builds the fuzz targets with clang under AddressSanitizer and UndefinedBehaviorSanitizer and runs
# each on its corpus, two at a time. Prints one line a target; fails on any finding, whose input and
# log stay in build-fuzz/found.
#   tests/fuzz/run.sh [SECONDS_EACH] [TARGET...]   default: 30 s, every target
set -eu

usage() { sed -n '2,5s/^# \{0,1\}//p' "$0"; }

case ${1:-30} in
  --help|-h) usage; exit 0 ;;
  *[!0-9]*|0) echo "run.sh: not a number of seconds: $1" >&2; usage >&2; exit 2 ;;
esac
seconds=${1:-30}
[ $# -eq 0 ] || shift

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
build=$root/build-fuzz
if ! command -v clang++-14 >/dev/null || ! dpkg -s libclang-rt-14-dev >/dev/null 2>&1; then
  # shellcheck source=../../examples/packages.sh
  . "$root/examples/packages.sh"
  # shellcheck disable=SC2086 # a list of packages is meant
  install_packages clang-14 libclang-rt-14-dev $CHORUS_BUILD_PACKAGES $CHORUS_TEST_PACKAGES
fi
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14 \
  -DCHORUS_DEVELOPER_MODE=ON -DCHORUS_FUZZ=ON \
  -DCHORUS_SANITIZE=fuzzer-no-link,address,undefined >/dev/null
if ! cmake --build "$build" --target fuzz -j2 >"$build/fuzz.log" 2>&1; then
  tail -n 40 "$build/fuzz.log" >&2
  exit 1
fi

found=$build/found
rm -rf "$found"
mkdir -p "$found"
targets=${*:-$(cd "$root/tests/fuzz" && grep -l LLVMFuzzerTestOneInput ./*.cc |
  sed 's/^\.\/\(.*\)\.cc$/\1/')}

# Runs target $1 and prints its line. New inputs go to a folder that is thrown away; the corpus in
# the repository is only read.
run_one() {
  name=$1
  log=$found/$name.log
  fresh=$(mktemp -d)
  [ -d "$root/tests/fuzz/corpus/$name" ] || mkdir -p "$fresh/none"
  corpus=$root/tests/fuzz/corpus/$name
  [ -d "$corpus" ] || corpus=$fresh/none
  case $name in decode_*) length=4096 ;; *) length=512 ;; esac
  status=0
  # Whole sessions allocate much: fewer stack frames are kept of each, and freed memory less long.
  ASAN_OPTIONS=malloc_context_size=8:quarantine_size_mb=16 \
  UBSAN_OPTIONS=print_stacktrace=1 \
    "$build/tests/fuzz/$name" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 \
    -malloc_limit_mb=64 -max_len="$length" -len_control=0 -entropic=0 -print_final_stats=1 \
    -artifact_prefix="$found/$name-" "$fresh" "$corpus" >"$log" 2>&1 || status=$?
  rm -rf "$fresh"
  statistic() { sed -n "s/^stat::$1: *//p" "$log"; }
  covered() { sed -n 's/.*\(INITED\|DONE\).* cov: \([0-9]*\).*/\2/p' "$log" | sed -n "$1p"; }
  before=$(covered 1)
  after=$(covered 2)
  findings=$(find "$found" -name "$name-*" | wc -l)
  [ "$status" -eq 0 ] || [ "$findings" -gt 0 ] || findings=1
  printf '%-20s %9s runs %7s/s  coverage %5s, new %4s  crashes %s\n' "$name" \
    "$(statistic number_of_executed_units)" "$(statistic average_exec_per_sec)" "${before:-0}" \
    "$((${after:-0} - ${before:-0}))" "$findings"
  if [ "$findings" -ne 0 ]; then
    grep -m 3 -E 'a law is broken|ERROR|runtime error|SUMMARY' "$log" || tail -n 3 "$log"
    # In base64, since a machine that others own is often gone with its files.
    for input in "$found/$name-"*; do
      [ ! -f "$input" ] || echo "$(basename "$input"): $(base64 -w 0 "$input")"
    done
  fi
  [ "$findings" -eq 0 ]
}

failed=0
# Two at a time: each pair starts when the one before has ended, since all take equally long.
# shellcheck disable=SC2086 # a list of names is meant
set -- $targets
while [ $# -gt 0 ]; do
  run_one "$1" & first=$!
  second=
  if [ $# -gt 1 ]; then run_one "$2" & second=$!; shift; fi
  shift
  wait "$first" || failed=1
  [ -z "$second" ] || wait "$second" || failed=1
done
[ "$failed" -eq 0 ] || echo "findings: see $found" >&2
exit "$failed"
