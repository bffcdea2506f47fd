# shellcheck shell=sh disable=SC2034,SC2015
# What Chorus needs from a Debian or Ubuntu system; sourced by quickstart.sh and tests/run.sh.

CHORUS_BUILD_PACKAGES="g++ cmake ninja-build ccache pkg-config libssl-dev
 libsodium-dev libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc zlib1g-dev libsqlite3-dev
 libpq-dev libmicrohttpd-dev libcli11-dev nlohmann-json3-dev"
CHORUS_TEST_PACKAGES="libgtest-dev libgmock-dev libeigen3-dev dataset-fashion-mnist"
# Of the slow tests, which are skipped without them.
CHORUS_SLOW_TEST_PACKAGES="doxygen python3-onnx python3-numpy libopenmpi-dev openmpi-bin
 mono-mcs mono-runtime luajit dpkg-dev minetest-server chromium prometheus curl bsdutils postgresql
 godot3-server"
# Node.js comes with npm from some sources and without it from Debian's.
command -v node >/dev/null 2>&1 || CHORUS_SLOW_TEST_PACKAGES="$CHORUS_SLOW_TEST_PACKAGES nodejs"
command -v npm >/dev/null 2>&1 || CHORUS_SLOW_TEST_PACKAGES="$CHORUS_SLOW_TEST_PACKAGES npm"

# Installs those of the named packages that are not there. Says what to type when it may not.
install_packages() {
  missing=
  for package in "$@"; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ]; then
    as_root=
  elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
  else
    echo "Packages are missing. As root, run this, then try again:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends -y$missing" >&2
    exit 1
  fi
  echo "Installing:$missing"
  # shellcheck disable=SC2086 # a list of packages is meant
  $as_root apt-get -o Acquire::Retries=3 update &&
    $as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get -o Acquire::Retries=3 install --no-install-recommends -y $missing || {
    echo "apt-get failed; see above. Without these packages Chorus cannot be built." >&2
    exit 1
  }
}

# Sets `chorus` to the tool, built from the tree `root`; one that CHORUS_TOOL names is used as it is.
find_chorus() {
  chorus=${CHORUS_TOOL:-$root/build/chorus}
  [ -z "${CHORUS_TOOL:-}" ] || return 0
  # shellcheck disable=SC2086 # a list of packages is meant
  install_packages $CHORUS_BUILD_PACKAGES "$@"
  [ -f "$root/build/build.ninja" ] ||
    cmake -S "$root" -B "$root/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCHORUS_DEVELOPER_MODE=OFF >/dev/null
  cmake --build "$root/build" --target chorus
}
