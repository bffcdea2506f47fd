#!/bin/sh
# What a shared object weighs, in bytes, a name and a number a line: embedding_size.sh LIBRARY
# Its own file stripped, and what of its code comes from where; then what it loads beyond libc and
# OpenSSL.
set -eu
library=$1
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$library"
echo "own_code $(wc -c <"$stripped")"
nm -S -C -t d "$library" | awk 'NF >= 4 && $3 ~ /[tTrRdDbBwWvVu]/ {
    if ($0 ~ /chorus::v1|chorus::onnx|onnx/) part = "generated_messages"
    else if ($0 ~ /chorus::learning/) part = "learning"
    else if ($0 ~ /chorus::(crypto|math)/) part = "crypto_and_math"
    else if ($0 ~ /chorus::aggregation/) part = "aggregation"
    else if ($0 ~ /chorus/) part = "client_and_the_rest"
    else part = "templates_of_others"
    bytes[part] += $2
  } END { for (part in bytes) print "of_it_" part, bytes[part] }'
ldd "$library" | awk '$2 == "=>" { print $3 }' |
  grep -v -E '/(libc|libcrypto|libssl|libpthread)\.so' |
  while read -r file; do
    case $file in
      *libgrpc*|*libgpr*|*libupb*|*libaddress_sorting*) part=grpc ;;
      *libabsl*) part=abseil ;;
      *libprotobuf*) part=protobuf ;;
      *libsodium*) part=sodium ;;
      *libstdc++*|*libgcc_s*|*/libm.so*) part=standard_library ;;
      *) part=others ;;
    esac
    echo "$part $(wc -c <"$(readlink -f "$file")")"
  done | awk '{ bytes[$1] += $2 } END { for (part in bytes) print "loads_" part, bytes[part] }'
