#!/bin/sh
# What the shared objects show to the world, against what programs of the first version expect.
#   c_abi.sh PRINTER GOLDEN LIBRARY...
# PRINTER prints today's layout; GOLDEN has a line for each size, field, number and symbol that a
# program compiled long ago relies on. Lines may be added to what is there today, and none changed.
# A structure that says its own size (struct_size) may have grown since, and no other may.
# Nothing but chorus_* is exported, and that under the version of the C ABI.
set -eu
command -v nm >/dev/null || { echo "SKIPPED: nm is not installed"; exit 77; }
case $(uname -m) in
  x86_64|aarch64) ;;
  *) echo "SKIPPED: the layout was recorded on machines of 64 bits"; exit 77 ;;
esac
printer=$1
golden=$2
shift 2
now=$(mktemp)
trap 'rm -f "$now"' EXIT
"$printer" >"$now"
for library in "$@"; do
  foreign=$(nm -D --defined-only "$library" | awk '$3 !~ /^chorus_[a-z0-9_]+@@CHORUS_1\.0$/ && $3 != "CHORUS_1.0" && $3 != "CHORUS_1.0@@CHORUS_1.0"')
  if [ -n "$foreign" ]; then
    echo "$library exports what is not chorus_*:" >&2
    echo "$foreign" | head -20 >&2
    exit 1
  fi
  # gRPC's threads outlive an engine that unloads its plugins.
  if ! readelf -d "$library" | grep -q NODELETE; then
    echo "$library can be unloaded while threads run in it" >&2
    exit 1
  fi
  base=$(basename "$library" | sed 's/\.so.*//')
  nm -D --defined-only "$library" | sed -n "s/.* T \(chorus_[a-z0-9_]*\)@@.*/symbol $base \1/p" >>"$now"
done
broken=$(awk '
  NR == FNR { lines[$0]; if ($1 == "size") size[$2] = $3; next }
  /^#/ { next }
  $1 == "size" && ("field " $2 ".struct_size 0 4") in lines && size[$2] >= $3 { next }
  !($0 in lines)' "$now" "$golden")
if [ -n "$broken" ]; then
  echo "programs compiled before rely on these lines, which no longer hold:" >&2
  echo "$broken" >&2
  exit 1
fi
echo "$(grep -c -v '^#' "$golden") expectations hold; $(grep -c '^symbol' "$now") symbols"
