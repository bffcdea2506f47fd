#!/bin/sh
# Every model that can be exported passes ONNX's checker and gives the same in onnxruntime.
#   tests/onnx.sh ONNX_CASES FOLDER
# ONNX_CASES is the built program; FOLDER keeps onnxruntime-node from one run to the next. Ends with
# 77 (skipped) where python3-onnx or node are missing or onnxruntime-node cannot be fetched.
set -eu

cases=$1
folder=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=/usr/bin/python3
"$python" -c 'import onnx' 2>/dev/null || { echo "SKIPPED: python3-onnx is not installed"; exit 77; }
command -v node >/dev/null 2>&1 || { echo "SKIPPED: node is not installed"; exit 77; }

mkdir -p "$folder"
modules=$folder/node_modules
if [ ! -d "$modules/onnxruntime-node" ]; then
  command -v npm >/dev/null 2>&1 || { echo "SKIPPED: npm is not installed"; exit 77; }
  timeout 300 npm install --prefix "$folder" --prefer-offline --ignore-scripts --no-audit --no-fund --silent \
    onnxruntime-node@1 || {
    echo "SKIPPED: npm could not fetch onnxruntime-node"
    exit 77
  }
fi

written=$(mktemp -d)
trap 'rm -rf "$written"' EXIT
"$cases" "$written"
"$python" "$here/onnx_check.py" "$written"
node "$here/onnx_run.js" "$written" "$modules"
