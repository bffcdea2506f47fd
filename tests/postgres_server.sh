# shellcheck shell=sh
# A PostgreSQL server of our own for a test: sourced by scripts, which call postgres_start and postgres_stop.
#   postgres_start FOLDER   makes a cluster in FOLDER, which must be absent, and starts it on loopback and on a socket in
#                           FOLDER; sets postgres_uri and postgres_pid. 77 when PostgreSQL is not installed.
#   postgres_kill           kills every process of it, as a power cut would; postgres_again starts it on what is left.
#   postgres_stop           stops it.
postgres_bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$postgres_bin" ] || postgres_bin=$(dirname "$(command -v initdb 2>/dev/null || echo /absent/initdb)")

# The server refuses to run as root.
postgres_run() {
  if [ "$(id -u)" = 0 ]; then
    runuser -u postgres -- "$@"
  else
    "$@"
  fi
}

postgres_again() {
  postgres_run "$postgres_bin/pg_ctl" -D "$postgres_folder/cluster" -l "$postgres_folder/log" -w -t 60 \
    -o "-p $postgres_port -k $postgres_folder -c listen_addresses=127.0.0.1 -c fsync=on -c recovery_init_sync_method=syncfs" start >/dev/null 2>&1 || return 1
  postgres_pid=$(head -n 1 "$postgres_folder/cluster/postmaster.pid")
}

postgres_start() {
  [ -x "$postgres_bin/initdb" ] || { echo "SKIPPED: install postgresql"; return 77; }
  if [ "$(id -u)" = 0 ] && ! id postgres >/dev/null 2>&1; then
    echo "SKIPPED: as root, PostgreSQL needs a user named postgres to run as"
    return 77
  fi
  postgres_folder=$1
  mkdir "$postgres_folder"
  [ "$(id -u)" != 0 ] || chown postgres "$postgres_folder"
  postgres_run "$postgres_bin/initdb" -D "$postgres_folder/cluster" -U chorus -A trust -E UTF8 --no-locale \
    >"$postgres_folder.initdb" 2>&1 || { cat "$postgres_folder.initdb"; return 1; }
  # A port that somebody else has makes the server refuse to start. Those from 32768 on are the kernel's to give away,
  # also while the server is down between postgres_kill and postgres_again.
  for try in 1 2 3 4 5 6 7 8 9 10; do
    postgres_port=$((20000 + ($$ * 7 + try * 131) % 12000))
    if postgres_again; then
      postgres_uri="postgresql://chorus@127.0.0.1:$postgres_port/postgres"
      return 0
    fi
  done
  cat "$postgres_folder/log"
  return 1
}

postgres_kill() {
  # Its children first would let it recover by itself.
  kill -KILL "$postgres_pid" 2>/dev/null || true
  for child in $(pgrep -P "$postgres_pid" 2>/dev/null || true); do kill -KILL "$child" 2>/dev/null || true; done
  # Those are its children no longer, and are found by its folder.
  for child in $(pgrep -f "^postgres: .*" 2>/dev/null || true); do
    [ "$(readlink "/proc/$child/cwd" 2>/dev/null)" = "$postgres_folder/cluster" ] || continue
    kill -KILL "$child" 2>/dev/null || true
  done
  while kill -0 "$postgres_pid" 2>/dev/null; do sleep 0.05; done
}

postgres_stop() {
  [ -n "${postgres_pid:-}" ] || return 0
  postgres_run "$postgres_bin/pg_ctl" -D "$postgres_folder/cluster" -m immediate -w stop >/dev/null 2>&1 || true
}
