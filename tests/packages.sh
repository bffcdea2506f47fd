#!/bin/sh
# Makes the Debian packages of a finished build and looks at them as those who install them do: what
# is in which, what they depend on, programs in C and C++ that know pkg-config only, and one that
# knows find_package.
#   tests/packages.sh BUILD
# Ends with 77 (skipped) without dpkg-shlibdeps or pkg-config.
set -eu

build=$1
command -v dpkg-shlibdeps >/dev/null 2>&1 || { echo "SKIPPED: dpkg-dev is not installed"; exit 77; }
command -v pkg-config >/dev/null 2>&1 || { echo "SKIPPED: pkg-config is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*" >&2; exit 1; }

cpack --config "$build/CPackConfig.cmake" -B "$work/packages" >"$work/cpack.log" 2>&1 ||
  { cat "$work/cpack.log" >&2; fail "cpack failed"; }
for name in libchorus1 libchorus-dev chorus; do
  set -- "$work/packages/${name}_"*.deb
  [ -f "$1" ] || fail "there is no package $name"
  dpkg-deb --contents "$1" >"$work/$name.list"
  root=$work/root
  [ $name != chorus ] || root=$work/tool  # which those who link the libraries need not have
  dpkg-deb --extract "$1" "$root"
  printf '%s: %s, %s kB, depends on %s\n' "$name" "$(dpkg-deb --field "$1" Version)" \
    "$(dpkg-deb --field "$1" Installed-Size)" "$(dpkg-deb --field "$1" Depends)"
done
grep -q 'libchorus_client.so.1' "$work/libchorus1.list" || fail "the runtime has no client"
grep -q 'include/chorus/client_c.h' "$work/libchorus-dev.list" || fail "no header for C"
grep -q '/bin/chorus' "$work/chorus.list" || fail "no tool"
! grep -q '/include/' "$work/libchorus1.list" || fail "headers in the runtime"
! grep -q '\.a$' "$work/libchorus1.list" || fail "static libraries in the runtime"

set -- "$work"/root/usr/lib*/pkgconfig "$work"/root/usr/lib/*/pkgconfig
for folder in "$@"; do [ ! -d "$folder" ] || PKG_CONFIG_PATH=$folder; done
export PKG_CONFIG_PATH
libraries=$(dirname "$PKG_CONFIG_PATH")
# shellcheck disable=SC2086 # several modules are meant
flags() { pkg-config --cflags --libs $1; }
cat >"$work/version.c" <<'C'
#include <chorus/client_c.h>
#include <stdio.h>
int main(void) { return printf("C: %s\n", chorus_version()) < 0; }
C
# shellcheck disable=SC2046 # flags are meant
cc -std=c99 -Wall -Wextra -Werror -pedantic "$work/version.c" -o "$work/version" $(flags chorus-client-c)
LD_LIBRARY_PATH=$libraries "$work/version"
# A program in C++ that starts both sides, once by pkg-config and once by find_package.
stranger=$(CDPATH='' cd -- "$(dirname -- "$0")/install" && pwd)
# shellcheck disable=SC2046 # flags are meant
c++ -std=c++20 -DWITH_coordinator -DWITH_client "$stranger/main.cc" -o "$work/stranger" $(flags "chorus-coordinator chorus-client")
"$work/stranger"
cmake -S "$stranger" -B "$work/found" "-DCMAKE_PREFIX_PATH=$work/root/usr" >"$work/found.log" 2>&1 &&
  cmake --build "$work/found" >>"$work/found.log" 2>&1 || { cat "$work/found.log" >&2; fail "find_package does not serve"; }
"$work/found/stranger"
"$work/tool/usr/bin/chorus" --version
