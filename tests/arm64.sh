#!/bin/sh
# Cross-compiles core and client, without gRPC, for arm64 and runs their tests under qemu: what a
# phone or a console with a transport of its own links.
#   tests/arm64.sh [FOLDER]      FOLDER is kept from one run to the next (build-arm64)
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
folder=${1:-$root/build-arm64}
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)
. "$root/examples/packages.sh"
# shellcheck disable=SC2086 # a list of packages is meant
install_packages $CHORUS_BUILD_PACKAGES $CHORUS_TEST_PACKAGES g++-aarch64-linux-gnu qemu-user-static

# The libraries for arm64 go into a folder of their own: this machine's packages stay as they are.
libraries="libssl-dev libsodium-dev libprotobuf-dev zlib1g-dev libgtest-dev libgmock-dev nlohmann-json3-dev"
arm64_root=$folder/root
if [ "$(cat "$arm64_root/complete" 2>/dev/null)" != "$libraries" ]; then
  rm -rf "$arm64_root"
  mkdir -p "$folder/apt/state/lists/partial" "$folder/apt/cache/archives/partial"
  : >"$folder/apt/status"
  apt="apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64
    -o APT::Sandbox::User=root -o Acquire::Retries=3 -o Dir::State=$folder/apt/state
    -o Dir::State::status=$folder/apt/status -o Dir::Cache=$folder/apt/cache"
  $apt update
  # shellcheck disable=SC2086 # likewise
  $apt install --download-only --no-install-recommends -y $libraries >/dev/null
  # As Debian has it since /bin and /lib are links.
  mkdir -p "$arm64_root/usr/lib" "$arm64_root/usr/bin" "$arm64_root/usr/sbin"
  for name in lib bin sbin; do ln -s "usr/$name" "$arm64_root/$name"; done
  for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$arm64_root" --keep-directory-symlink
  done
  rm -rf "$folder/apt"
  # Written last, and with what is there: another list needs another folder.
  echo "$libraries" >"$arm64_root/complete"
fi

cmake -S "$root" -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_TOOLCHAIN_FILE="$root/tests/arm64.cmake" -DARM64_ROOT="$arm64_root" \
  -DCHORUS_WITH_GRPC=OFF -DCHORUS_BUILD_COORDINATOR=OFF -DCHORUS_DEVELOPER_MODE=ON >/dev/null
# What takes some seconds each under qemu: aggregation_test and one_shot_test take minutes.
tests="base_test crypto_test tls_test merkle_test mask_test math_test fixed_point_test shamir_decode_test ntt_test
  rlwe_test packed_shamir_test kernels_test network_test model_test shapes_test learning_test training_test
  server_optimizer_test robust_test trust_test token_test graph_test seen_keys_test prekey_test secagg_test
  secagg_known_answers_test one_shot_known_answers_test wire_test ledger_test client_secagg_test device_state_test
  committee_test client_test frame_budget_test"
# shellcheck disable=SC2086 # likewise
cmake --build "$folder/build" --target chorus_client $tests
for test in $tests; do
  printf '%s: ' "$test"
  qemu-aarch64-static -L "$arm64_root" "$folder/build/tests/$test" --gtest_brief=1 \
    >"$folder/$test.log" 2>&1 || { echo FAILED; tail -n 20 "$folder/$test.log" >&2; exit 1; }
  sed -n 's/^\[ *\(PASSED\|SKIPPED\) *\] *\(.*\)/\1 \2/p' "$folder/$test.log" | tr '\n' ' '
  echo
done
