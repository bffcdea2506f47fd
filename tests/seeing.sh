#!/bin/sh
# Looks at a real coordinator with real clients as people and machines do, and compares what each shows.
#   tests/seeing.sh page PATH_OF_CHORUS [SCREENSHOTS]   the web page, in headless Chromium; pictures into a folder
#   tests/seeing.sh prometheus PATH_OF_CHORUS           the metrics, scraped by Prometheus and checked by promtool
#   tests/seeing.sh terminal PATH_OF_CHORUS             `status --watch` on a pseudo-terminal
set -eu

what=$1
chorus=$2
pictures=${3:-}
dataset=/usr/share/datasets/fashion-mnist
[ -d $dataset ] || { echo "SKIPPED: install dataset-fashion-mnist"; exit 77; }
case $what in
  page) needed="chromium curl" ;;
  prometheus) needed="prometheus promtool curl" ;;
  terminal) needed=script ;;
  *) echo "seeing.sh: page, prometheus or terminal?" >&2; exit 2 ;;
esac
for program in $needed; do
  command -v "$program" >/dev/null || { echo "SKIPPED: install $program"; exit 77; }
done

work=$(mktemp -d)
started=
cleanup() {
  for pid in $started; do kill -CONT "$pid" 2>/dev/null || true; kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*"
  for log in "$work"/*.log; do echo "--- $log"; tail -n 5 "$log"; done
  exit 1
}
await() {  # SECONDS WHAT COMMAND...
  tries=$(($1 * 10))
  awaited=$2
  shift 2
  until "$@"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "waited in vain for $awaited"
    sleep 0.1
  done
}

# --- a coordinator and its clients ---
rounds=8
clients=6
"$chorus" split --images $dataset/t10k-images-idx3-ubyte.gz --labels $dataset/t10k-labels-idx1-ubyte.gz \
  --clients $clients --dirichlet 1 --seed 1 --out "$work/data" >/dev/null
"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys client --dir "$work/keys" --count $clients >/dev/null
cat >"$work/task.textproto" <<TASK
name: "seen"
rounds: $rounds
protocol: PROTOCOL_SECAGG
model {
  inputs: 784
  layers { units: 16 activation: ACTIVATION_RELU }
  layers { units: 10 }
}
cohort { minimum: 5 target: 6 maximum: 6 }
deadlines { check_in_ms: 500 train_ms: 10000 choose_ms: 5000 share_ms: 5000 upload_ms: 5000
            consistency_ms: 5000 unmask_ms: 5000 }
TASK
echo 'uploads_per_model_max: 0' >"$work/policy.textproto"
"$chorus" serve --task "$work/task.textproto" --keys "$work/keys" --state "$work/state" --listen 127.0.0.1:0 \
  --port-file "$work/port" --web :0 --web-port-file "$work/web-port" --log json --verbose \
  >"$work/serve.log" 2>"$work/serve-json.log" &
started="$started $!"
await 60 "the coordinator" test -s "$work/port"
port=$(cat "$work/port")
web=http://127.0.0.1:$(cat "$work/web-port")
status() { "$chorus" status --server "127.0.0.1:$port" --tls-authority "$work/keys/tls-authority.pem" "$@"; }
join() {  # CLIENT
  name=$(printf 'client-%03d' "$1")
  "$chorus" train --data "$work/data/$name" --keys "$work/keys/clients/$name" --server "127.0.0.1:$port" \
    --state "$work/devices/$name" --policy "$work/policy.textproto" >"$work/$name.log" 2>&1 &
  started="$started $!"
}
join_all() {
  client=0
  while [ $client -lt $clients ]; do
    join $client
    client=$((client + 1))
  done
}
complete() { status --rounds 0 | grep -q ": $rounds of $rounds rounds committed"; }

# --- the web page ---
browse() {  # ARGUMENTS...
  timeout 120 chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1' --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/browser" \
    --virtual-time-budget=2500 --log-net-log="$work/net.json" "$@" 2>>"$work/chromium.log"
}
picture() {  # NAME WIDTH,HEIGHT ARGUMENTS...
  [ -n "$pictures" ] || return 0
  mkdir -p "$pictures"
  name=$1
  size=$2
  shift 2
  browse --window-size="$size" --screenshot="$pictures/$name.png" "$@" "$web/" >/dev/null
  [ -s "$pictures/$name.png" ] || fail "no picture $name"
}
# What the coordinator tells the page. The page says "unreachable" where the first comes late, and has it for a second.
heard() {  # ROUNDS: that so many are committed, and no other is open
  curl -sf --max-time 5 -w '\n' "$web/status.json" >"$work/status.json" &&
    grep -q "\"rounds_committed\":$1,\"clients\":[0-9]*,\"step\":\"\"" "$work/status.json"
}
# The rows of one of the page's tables of bars: name and number.
bars() {  # TABLE
  grep -o "<table class=\"bars\" id=\"$1\">.*" "$work/page.html" | sed 's/<\/table>.*//; s/<tr>/\n/g' |
    sed -n 's/^<th[^>]*>\([^<]*\)<.*class="number">\([^<]*\)<.*/\1: \2/p'
}
# The latest round's number of this name, of the status in JSON.
latest() { sed -n "s/.*{\"round\":.*\"$1\":\([0-9]*\),.*/\1/p" "$work/status.json"; }
compare() {  # WHAT: $work/told.txt with $work/shown.txt
  [ -s "$work/shown.txt" ] || fail "the page shows no $1"
  diff "$work/told.txt" "$work/shown.txt" || fail "the page's $1 are not those of the status"
}
check_people() {
  sed -n 's/.*"clients":\([0-9]*\),.*/Checked in: \1/p' "$work/status.json" >"$work/told.txt"
  printf '%s\n' "Invited: $(latest invited)" "Trained: $(latest trained)" "Uploaded: $(latest uploaded)" \
    "In the sum: $(latest in_sum)" >>"$work/told.txt"
  bars funnel >"$work/shown.txt"
  compare "counts of the cohort"
  grep -o '"dropouts":\[[0-9,]*\]' "$work/status.json" | tr -dc '0-9,\n' | awk -F, -v names="$(
    grep -o '{"name":"[^"]*","of_clients"' "$work/status.json" | sed 's/{"name":"//; s/",.*//' | tr '\n' ,)" '
    { for (i = 1; i <= NF; ++i) sum[i] += $i }
    END { n = split(names, name, ",") - 1; for (i = 1; i <= n; ++i) print name[i] ": " sum[i] }' >"$work/told.txt"
  bars dropouts >"$work/shown.txt"
  compare dropouts
  sed -n 's/.*"processes":\[{"name":"\([^"]*\)","version":"\([^"]*\)".*/\1 \2/p' "$work/status.json" >"$work/told.txt"
  { tr -d '\n' <"$work/page.html" && echo; } | sed 's/.*id="processes">//; s/<\/table>.*//; s/<tr>/\n/g' |
    sed -n 's/^<td class="text">\([^<]*\)<\/td><td class="text">\([^<]*\)<.*/\1 \2/p' >"$work/shown.txt"
  compare processes
}
figure() { sed -n "s/.*data-figure=\"$1\">\([^<]*\)<.*/\1/p" "$work/page.html"; }
check_page() {
  await 30 "the first status" heard 0
  picture empty 1280,900
  browse --dump-dom "$web/" >"$work/page.html"
  grep -q 'waiting for clients' "$work/page.html" || fail "the page does not say that nobody is there"
  join_all
  await 120 "the rounds" complete
  await 30 "the rounds in the page's status" heard $rounds
  browse --dump-dom "$web/" >"$work/page.html"
  status --rounds 100 >"$work/status.txt"
  picture light 1280,1500
  picture dark 1280,1500 --blink-settings=preferredColorScheme=0
  picture narrow 500,2600
  [ -z "$pictures" ] || ! cmp -s "$pictures/light.png" "$pictures/dark.png" || fail "the page is as light in the dark"
  [ "$(figure committed)" = $rounds ] || fail "the page says $(figure committed) rounds, not $rounds"
  [ "$(figure clients)" = "$(sed -n 's/^clients: //p' "$work/status.txt")" ] || fail "clients differ"
  grep -q '<h1 id="task">seen</h1>' "$work/page.html" || fail "the page does not name the task"
  # Round, state, in the sum, invited, accuracy.
  sed -n 's/^ *\([0-9]*\)  \([a-z]*\) *\([0-9]*\) *\([0-9]*\) *\([-0-9.]*\) .*/\1 \2 \3 \4 \5/p' "$work/status.txt" |
    grep -v '^ ' | sort -n >"$work/told.txt"
  grep -o '<tr><td>[0-9]*</td><td><span class="mark [a-z]*">[a-z]*</span></td>\(<td>[^<]*</td>\)\{5\}' "$work/page.html" |
    sed 's/<[^>]*>/ /g' | awk '{ print $1, $2, $3, $4, $7 }' | sed 's/–/-/' | sort -n >"$work/shown.txt"
  compare rounds
  for chart in accuracy loss bytes duration; do
    grep -q "id=\"$chart-chart\"[^>]*><svg[^>]*aria-label=\"$rounds rounds, the last" "$work/page.html" ||
      fail "no curve of $chart"
  done
  told=$(wc -l <"$work/shown.txt")
  check_people
  # The browser asks its maker for news by itself; what counts is what the page asked for.
  grep "\"initiator\":\"$web\"" "$work/net.json" | grep -o '"url":"[^"]*"' | sort -u >"$work/asked.txt"
  grep -q "\"$web/status.json\"" "$work/asked.txt" || fail "the browser's log has no request of the page"
  ! grep -v "^\"url\":\"$web/" "$work/asked.txt" || fail "the page asked somebody else"
  ! grep -v '^{"time":"[-0-9T:.]*Z","level":"[a-z]*","message":"[^"]*"\(,"[a-z_]*":[^,]*\)*}$' "$work/serve-json.log" ||
    fail "a line of the log is no JSON"
  echo "the page shows the $told rounds of the status, and asks nobody else"
}

# --- Prometheus ---
query() {  # EXPRESSION: the first value
  curl -sG "http://127.0.0.1:$prometheus/api/v1/query" --data-urlencode "query=$1" |
    sed -n 's/.*"value":\[[0-9.]*,"\([^"]*\)"\].*/\1/p'
}
counted() { [ "$(query "$1")" = "$2" ]; }
# That it is ours which answers: somebody else's may have the port.
ready() {
  curl -sf "http://127.0.0.1:$prometheus/-/ready" >/dev/null &&
    curl -sf "http://127.0.0.1:$prometheus/api/v1/status/flags" | grep -qF "$work/tsdb"
}
check_prometheus() {
  curl -s "$web/metrics" | promtool check metrics || fail "promtool complains"
  cat >"$work/prometheus.yml" <<CONFIG
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - job_name: chorus
    static_configs: [ { targets: [ "${web#http://}" ] } ]
CONFIG
  # It takes no port 0, so one after the other is tried; those from 32768 on are the kernel's to
  # give away.
  for try in 1 2 3 4 5 6 7 8 none; do
    [ $try != none ] || fail "no port is free for Prometheus"
    prometheus=$((20000 + ($$ * 7 + try * 131) % 12000))
    prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
      --web.listen-address="127.0.0.1:$prometheus" >"$work/prometheus.log" 2>&1 &
    scraper=$!
    started="$started $scraper"
    tries=0
    until ready; do
      tries=$((tries + 1))
      if [ $tries -gt 300 ] || ! kill -0 $scraper 2>/dev/null; then continue 2; fi
      sleep 0.1
    done
    break
  done
  await 60 "the first scrape" counted 'up{job="chorus"}' 1
  join_all
  await 120 "the rounds" complete
  await 20 "the rounds in Prometheus" counted 'sum(chorus_rounds_total{result="committed"})' $rounds
  # One scrape may come between two of these, so each waits for its own.
  await 20 "durations in Prometheus" \
    counted 'sum(chorus_round_duration_seconds_count{result="committed"})' $rounds
  # Clients whose task is complete may have left by now.
  await 20 "the clients in Prometheus" \
    counted 'max_over_time(chorus_clients_checked_in[10m])' $clients
  told=$(status --rounds 100 | awk 'NR > 1 && $2 == "committed" { n += $3 } END { print n }')
  await 20 "as many contributions in Prometheus as in the status" \
    counted 'sum(chorus_contributions_total)' "$told"
  await 20 "the processor's time" counted 'sum(rate(process_cpu_seconds_total[1m])) >= bool 0' 1
  curl -s "$web/metrics" >"$work/metrics.txt"
  promtool check metrics <"$work/metrics.txt" || fail "promtool complains after a run"
  # A certificate's serial, a key, an address: none may be on the page.
  ! grep -n '127\.0\.0\.1\|client-0' "$work/metrics.txt" || fail "the metrics name somebody"
  echo "Prometheus counted $rounds rounds in $(grep -vc '^#' "$work/metrics.txt") series"
}

# --- the terminal ---
press() {  # KEY: a second after the first screen, or after a minute without any
  tries=0
  until grep -q committed "$work/typescript" 2>/dev/null || [ $tries -gt 600 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
  sleep 1
  printf '%b' "$1"
}
# The exec is for shells that would stay between the two and die of Ctrl-C themselves.
watched() {  # KEY: what a terminal was sent until the key ended it
  rm -f "$work/typescript"
  press "$1" | TERM=xterm timeout 120 script -qfec "exec '$chorus' status --server 127.0.0.1:$port \
    --tls-authority '$work/keys/tls-authority.pem' --watch" "$work/typescript" >"$work/watch.log"
}
check_terminal() {
  join_all
  for key in q '\0003'; do
    watched "$key" || fail "--watch ends with an error after $key"
    grep -q 'committed' "$work/typescript" || fail "--watch shows no rounds"
    [ "$(grep -c '1049h' "$work/typescript")" -ge 1 ] || fail "--watch does not take the screen"
    tail -c 400 "$work/typescript" | grep -q '?25h.*?1049l' || fail "--watch leaves the screen as it was not"
  done
  await 120 "the rounds" complete
  [ "$(status --watch | head -n 1 | grep -c "$rounds of $rounds rounds committed")" = 1 ] ||
    fail "--watch into a pipe does not tell a line"
  echo "--watch draws, and leaves the terminal as it was"
}

"check_$what"
