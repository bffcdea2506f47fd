#!/bin/sh
# Follows docs/tutorial.md as a newcomer does: writes its files and runs its commands, in order.
#   tests/tutorial.sh [CHORUS]
# CHORUS is the built tool, beside which the client's library lies: its folder is the tutorial's build
# folder. Without it the tutorial configures and builds its own in build/, as it says. Ends with 77
# (skipped) without python3.
set -eu

command -v python3 >/dev/null 2>&1 || { echo "SKIPPED: python3 is not installed"; exit 77; }
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CHORUS=$root
if [ $# -gt 0 ]; then
  build=$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd)
  CHORUS=$work/chorus
  mkdir "$CHORUS"
  ln -s "$root/examples" "$CHORUS/examples"
  ln -s "$build" "$CHORUS/build"
fi
export CHORUS PYTHONDONTWRITEBYTECODE=1
cd "$work"
# Blocks named after a file become that file; those of the shell become one script, each with its
# number, so that variables and background jobs live on as they do in a newcomer's shell.
awk '
  /^```[a-z]+ ./ { file = $2; inside = 1; printf "" > file; next }
  /^```sh$/ { file = "commands"; inside = 1; print "echo \"--- block " ++blocks "\"" > file; next }
  /^```/ { inside = 0; next }
  inside { print > file }
' "$root/docs/tutorial.md"
cat >follow <<'SCRIPT'
set -eu
# The tutorial keeps the numbers of all that it starts in these; `jobs -p` is empty in dash.
stop() { for job in ${games:-} ${coordinator:-}; do kill "$job" 2>/dev/null || true; done; }
trap stop EXIT
SCRIPT
cat commands >>follow
sh follow || { tail -n 5 ./*.log >&2; exit 1; }
[ -s wolf.onnx ] && [ -s simulation.html ] && grep -Eq 'took part in (8|9|10) rounds' game-0.log
