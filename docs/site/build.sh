#!/bin/sh
# Makes the documentation in FOLDER (build/site), to be read from FOLDER/html/index.html. Fails on
# any warning.
#   docs/site/build.sh [--check] [FOLDER]
# --check: ends with 77 where doxygen is not installed, in place of installing it.
set -eu

check=false
if [ "${1:-}" = --check ]; then check=true; shift; fi
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
folder=${1:-$root/build/site}
if ! command -v doxygen >/dev/null 2>&1; then
  if $check; then echo "SKIPPED: doxygen is not installed"; exit 77; fi
  . "$root/examples/packages.sh"
  install_packages doxygen
fi
mkdir -p "$folder"
cd "$root"
{
  cat docs/site/Doxyfile
  echo "OUTPUT_DIRECTORY = $folder"
  echo "FILTER_PATTERNS = \"*.h=sed -f $root/docs/site/comments.sed\""
} | doxygen -
echo "Read $folder/html/index.html"
