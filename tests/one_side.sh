#!/bin/sh
# Builds the client without the coordinator, and the coordinator without the client, installs each, and
# links a stranger's program to what find_package(Chorus) finds then.
#   tests/one_side.sh BUILD_TYPE C_COMPILER CXX_COMPILER
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Told only when it fails: it is long.
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 60 "$work/log" >&2; exit 1; }; }

alone() {  # SIDE OTHER
  cmake -S "$root" -B "$work/$1" -G Ninja "-DCMAKE_BUILD_TYPE=$build_type" "-DCMAKE_C_COMPILER=$c_compiler" \
    "-DCMAKE_CXX_COMPILER=$cxx_compiler" -DCHORUS_DEVELOPER_MODE=ON "-DCHORUS_BUILD_$2=OFF" \
    "-DCMAKE_INSTALL_PREFIX=$work/$1.installed"
  cmake --build "$work/$1" --target "chorus_$1" "chorus_$1_c" chorus_wire chorus_proto
  cmake --install "$work/$1"
  cmake -S "$root/tests/install" -B "$work/$1.stranger" -G Ninja "-DCMAKE_PREFIX_PATH=$work/$1.installed"
  cmake --build "$work/$1.stranger"
}
build_type=$1
c_compiler=$2
cxx_compiler=$3
quietly alone client COORDINATOR
"$work/client.stranger/stranger"
quietly alone coordinator CLIENT
"$work/coordinator.stranger/stranger"
