#!/bin/sh
# Runs a game of Godot 3 without a screen, whose script plays a round of Chorus's client in echo mode.
#   tests/godot.sh CLIENT_LIBRARY [C_COMPILER]
# Builds the class of examples/godot against CLIENT_LIBRARY. Ends with 77 (skipped) where
# godot3-server is not installed or was built without GDNative.
set -eu

client=$1
compiler=${2:-cc}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
skip() { echo "SKIPPED: $*"; exit 77; }
command -v godot3-server >/dev/null 2>&1 || skip "godot3-server is not installed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Godot keeps its settings in the home folder, and waits forever for a script that never ends.
godot() { HOME=$work timeout 100 godot3-server "$@" 2>&1; }

cat >"$work/has_gdnative.gd" <<'SCRIPT'
extends SceneTree
func _init():
	quit(0 if ClassDB.class_exists("GDNative") and ClassDB.class_exists("NativeScript") else 77)
SCRIPT
result=0
godot --path "$work" --script "$work/has_gdnative.gd" >"$work/log" || result=$?
case $result in
  0) ;;
  77) skip "godot3-server was built without GDNative" ;;
  *) cat "$work/log" >&2; exit 1 ;;
esac

# Laid out as a game is shipped: the library of Chorus lies beside the one that links it.
cp -r "$root/examples/godot/game" "$work/game"
cp -L "$client" "$work/game/libchorus_client.so.1"
# shellcheck disable=SC2016 # the loader, and not this shell, knows $ORIGIN
"$compiler" -std=c99 -pedantic -Wall -Wextra -Werror -O2 -fPIC -fvisibility=hidden -shared \
  -I"$root/include" "$root/examples/godot/chorus_gdnative.c" "$work/game/libchorus_client.so.1" \
  '-Wl,-rpath,$ORIGIN' -o "$work/game/libchorus_gdnative.so"

result=0
godot --path "$work/game" >"$work/log" || result=$?
cat "$work/log"
[ $result -eq 0 ] || { echo "the game ended with $result" >&2; exit 1; }
grep -q '^godot: ok$' "$work/log" || { echo "the game did not come to its end" >&2; exit 1; }
