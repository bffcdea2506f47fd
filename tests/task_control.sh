#!/bin/sh
# Operators act on the tasks of a real coordinator over TLS, by the tool: every order and its entry in the audit; a
# restart; strangers refused.
#   tests/task_control.sh PATH_OF_CHORUS
set -eu

chorus=$1
work=$(mktemp -d)
server=
member=
cleanup() {
  for pid in $server $member; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*"
  tail -n 20 "$work"/*.log
  exit 1
}

"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys operator --stem "$work/alice" >/dev/null
"$chorus" keys operator --stem "$work/mallory" >/dev/null
for name in first second added; do
  cat >"$work/$name.task" <<TASK
name: "$name"
rounds: 8
protocol: PROTOCOL_SECAGG
model { inputs: 4 layers { units: 2 } }
cohort { minimum: 5 target: 5 maximum: 6 }
TASK
done

serve() {  # OPTIONS...
  rm -f "$work/port"
  "$chorus" serve --task "$work/first.task" --task "$work/second.task" --operator "$work/alice.pub" \
    --keys "$work/keys" --state "$work/state" --listen 127.0.0.1:0 --port-file "$work/port" "$@" >>"$work/serve.log" 2>&1 &
  server=$!
  tries=0
  until [ -s "$work/port" ]; do
    tries=$((tries + 1))
    [ $tries -le 300 ] || fail "the coordinator does not come up"
    sleep 0.1
  done
  to="--server 127.0.0.1:$(cat "$work/port") --tls-authority $work/keys/tls-authority.pem"
}
order() {  # WHAT OPTIONS...
  what=$1
  shift
  "$chorus" task "$what" $to --operator-key "$work/alice.key" "$@" >"$work/out.log" 2>&1
}
expect() {  # TEXT COMMAND...: the command's output has the text
  text=$1
  shift
  "$@" >"$work/out.log" 2>&1 || true
  grep -q -- "$text" "$work/out.log" || fail "no \"$text\" in what this says: $*"
}

serve
expect 'second  *running  *1' "$chorus" task list $to
order pause --task first --reason "a drill" || fail "pause"
expect 'first  *paused' "$chorus" task list $to
if order pause --task first; then fail "paused twice"; fi
order resume --task first || fail "resume"
order priority --task second --priority 5 || fail "priority"
order add --file "$work/added.task" --priority 2 || fail "add"
if order rollback --task first --round 1; then fail "rolled back to a round that was not"; fi
order stop --task second --reason "done with it" || fail "stop"
expect 'not one of this coordinator' "$chorus" task resume $to --operator-key "$work/mallory.key" --task first
expect 'no task of this name' "$chorus" task pause $to --operator-key "$work/alice.key" --task none
expect 'UTF-8' "$chorus" task pause $to --operator-key "$work/alice.key" --task first --reason "$(printf 'a\001b')"
expect '3 entries, each signed' "$chorus" audit $to --task first --actor "$work/keys/coordinator.pub" \
  --actor "$work/alice.pub"
expect 'somebody else' "$chorus" audit $to --task first --actor "$work/keys/coordinator.pub"
hash=$("$chorus" audit $to --task second | sed -n 's/^  hash //p' | tail -n 1)

kill "$server"
wait "$server" 2>/dev/null || true
serve
expect 'added  *running  *2' "$chorus" task list $to
expect 'second  *stopped  *5' "$chorus" task list $to
expect '3 entries, each signed' "$chorus" audit $to --task second --contains "$hash"
expect 'does not contain' "$chorus" audit $to --task first --contains "$hash"
if order resume --task second; then fail "resumed after a stop"; fi

# Where a certificate is asked for, operators, watchers and committees show one as clients do.
"$chorus" keys client --dir "$work/keys" --count 1 --tls >/dev/null
kill "$server"
wait "$server" 2>/dev/null || true
serve --client-ca "$work/keys/tls-authority.pem"
for command in "task list" "audit --task first" "status"; do
  if "$chorus" $command $to >"$work/out.log" 2>&1; then fail "$command is answered without a certificate"; fi
done
if order pause --task first; then fail "an order without a certificate is obeyed"; fi
shown=$work/keys/clients/client-000/tls-client
to="$to --tls-certificate $shown.pem --tls-key $shown.key"
expect 'first  *running' "$chorus" task list $to
expect '3 entries, each signed' "$chorus" audit $to --task first
expect 'task first' "$chorus" status $to
order pause --task first || fail "an order with a certificate"
expect 'requires --tls-key' "$chorus" status --server 127.0.0.1:1 --tls-certificate "$shown.pem"
"$chorus" keys committee --dir "$work/keys" --members 3 --tls >/dev/null
"$chorus" committee --keys "$work/keys/committee/member-001" --server "127.0.0.1:$(cat "$work/port")" >"$work/member.log" 2>&1 &
member=$!
tries=0
until grep -qs '^connected' "$work/member.log"; do
  tries=$((tries + 1))
  [ $tries -le 300 ] || fail "a committee's member with a certificate does not connect"
  sleep 0.1
done
kill "$member"
wait "$member" 2>/dev/null || true
echo "operators are obeyed, strangers are not"
