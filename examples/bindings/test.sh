#!/bin/sh
# Runs a binding's example: test.sh python|csharp|lua CLIENT_LIBRARY, in echo mode, or
#   test.sh npc COORDINATOR_LIBRARY CLIENT_LIBRARY CHORUS
# with a coordinator and players over TLS on this machine. Exit code 77: the language is not installed.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
need() {
  for program in "$@"; do
    command -v "$program" >/dev/null 2>&1 || { echo "SKIPPED: $program is not installed"; exit 77; }
  done
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
case ${1:-} in
  python)
    need python3
    python3 "$here/echo.py" "$2"
    ;;
  csharp)
    need mcs mono
    mcs -nologo -warnaserror -out:"$work/Echo.exe" "$here/Echo.cs" "$here/Chorus.cs"
    # Mono looks for libchorus_client.so there; Unity looks in Assets/Plugins.
    ln -s "$2" "$work/libchorus_client.so"
    LD_LIBRARY_PATH=$work mono "$work/Echo.exe"
    ;;
  lua)
    need luajit
    luajit "$here/echo.lua" "$2"
    ;;
  npc)
    need python3
    "$4" keys init --dir "$work/keys" >/dev/null
    "$4" keys client --dir "$work/keys" --count 5 >/dev/null
    python3 "$here/npc.py" "$2" "$3" "$work/keys" "$work/devices"
    ;;
  *)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
