#!/bin/sh
# Runs test programs against a PostgreSQL server of their own, which CHORUS_POSTGRES names to them and
# CHORUS_POSTGRES_CONTROL, a program, kills ("kill") and starts again ("start"). Then takes a backup with pg_dump as
# docs/operating.md says, restores it into another database, and lets the tool go on from there.
#   tests/postgres.sh PATH_OF_CHORUS PROGRAM [PROGRAM ...]
set -eu

chorus=$1
shift
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/postgres_server.sh"
work=$(mktemp -d)
chmod 755 "$work"
cleanup() {
  # It may have been started again since.
  postgres_stop
  rm -rf "$work"
}
trap cleanup EXIT
status=0
postgres_start "$work/postgres" || status=$?
[ $status = 0 ] || exit $status

cat >"$work/control" <<CONTROL
#!/bin/sh
. "$here/postgres_server.sh"
postgres_folder="$postgres_folder"
postgres_port=$postgres_port
case \$1 in
  kill) postgres_pid=\$(head -n 1 "\$postgres_folder/cluster/postmaster.pid"); postgres_kill ;;
  start) postgres_again ;;
esac
CONTROL
chmod 755 "$work/control"
export CHORUS_POSTGRES="$postgres_uri"
export CHORUS_POSTGRES_CONTROL="$work/control"
for program in "$@"; do
  "$program" --gtest_brief=1
done

fail() {
  echo "FAILED: $*"
  cat "$work"/*.log
  exit 1
}
cat >"$work/task.textproto" <<'TASK'
name: "dumped"
rounds: 3
model { inputs: 2 layers { units: 1 } }
protocol: PROTOCOL_PLAIN
cohort { minimum: 2 target: 2 maximum: 2 }
TASK
"$chorus" keys init --dir "$work/keys" >/dev/null
start() {  # DATABASE OPTIONS...: a coordinator that no client calls
  database=$1
  shift
  rm -f "$work/port"
  "$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --store "$database" --listen 127.0.0.1:0 \
    --port-file "$work/port" "$@" >"$work/serve.log" 2>&1 &
  server=$!
  tries=0
  until [ -s "$work/port" ]; do
    kill -0 $server 2>/dev/null || fail "the coordinator did not start"
    tries=$((tries + 1))
    [ $tries -le 600 ] || fail "the coordinator did not start within a minute"
    sleep 0.1
  done
}
stop() {
  kill -TERM $server
  wait $server || true
}
# It writes its task, and is stopped. Its end tells how far it came.
serve() {  # DATABASE
  start "$1"
  stop
}
serve "$postgres_uri"
"$postgres_bin/pg_dump" --format=custom --schema=chorus --dbname="$postgres_uri" --file="$work/dump"
restored="${postgres_uri%/*}/restored"
"$postgres_bin/createdb" --maintenance-db="$postgres_uri" restored
"$postgres_bin/pg_restore" --exit-on-error --dbname="$restored" "$work/dump"
"$chorus" restore --store "$restored" --skip-rounds 50 >"$work/restore.log" || fail "the restored database is refused"
grep -q 'task dumped goes on after 0 committed rounds, with round 51' "$work/restore.log" || fail "rounds are not skipped"
serve "$restored"
grep -q 'task dumped goes on after 0 of 3 rounds' "$work/serve.log" || fail "the coordinator does not go on"
"$chorus" check --store "$restored" >"$work/check.log" || fail "the restored store is not sound"
echo "dumped, restored, and gone on from"

# The server of the database is gone for a while. Of the task that was added nothing was told before.
await() {  # COMPLAINT COMMAND...: that the command succeeds, while the coordinator runs
  complaint=$1
  shift
  tries=0
  until "$@" >"$work/await.log" 2>&1; do
    kill -0 $server 2>/dev/null || fail "the coordinator ended"
    tries=$((tries + 1))
    [ $tries -le 600 ] || fail "$complaint"
    sleep 0.1
  done
}
"$chorus" keys operator --stem "$work/alice" >/dev/null
sed 's/dumped/added/' "$work/task.textproto" >"$work/added.textproto"
start "$restored" --operator "$work/alice.pub"
order() {  # WHAT OPTIONS...
  what=$1
  shift
  "$chorus" task "$what" --server "127.0.0.1:$(cat "$work/port")" --tls-authority "$work/keys/tls-authority.pem" \
    --operator-key "$work/alice.key" "$@"
}
order add --file "$work/added.textproto" >"$work/order.log" 2>&1 || fail "no task can be added"
order pause --task added >"$work/order.log" 2>&1 || fail "the task that was added cannot be paused"
postgres_pid=$(head -n 1 "$postgres_folder/cluster/postmaster.pid")
postgres_kill
await "the coordinator does not say what troubles the task" grep -q '^added: trouble: .*; trying again' "$work/serve.log"
await "the coordinator does not say what troubles its first task" grep -q '^trouble: .*; trying again' "$work/serve.log"
postgres_again || fail "PostgreSQL does not start again"
await "the coordinator does not go on once PostgreSQL is back" order priority --task added --priority 2
stop
grep -q 'stopped before all tasks were complete\|stopped after 0 of 3 rounds' "$work/serve.log" ||
  fail "the coordinator ended otherwise than it was told to"
echo "a coordinator waits for PostgreSQL"
