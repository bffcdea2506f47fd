# shellcheck shell=sh disable=SC2034,SC2015
# What Chorus needs from a Debian or Ubuntu system; sourced by quickstart.sh and tests/run.sh.

CHORUS_BUILD_PACKAGES="g++ cmake ninja-build ccache pkg-config libssl-dev libeigen3-dev libspdlog-dev
 libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc zlib1g-dev libsqlite3-dev libcli11-dev"
CHORUS_TEST_PACKAGES="libgtest-dev libgmock-dev nlohmann-json3-dev dataset-fashion-mnist"

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
  $as_root apt-get update &&
    $as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install --no-install-recommends -y $missing || {
    echo "apt-get failed; see above. Without these packages Chorus cannot be built." >&2
    exit 1
  }
}
