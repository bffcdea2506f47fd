// Follows the coordinator: asks for status.json every two seconds and writes what changed into the page. Text from the
// coordinator enters as text, never as markup.
import { drawChart } from './charts.js';

const kPeriodMs = 2000;
const kRowsFirst = 20;

const byId = (id) => document.getElementById(id);
let chosen = null, rowsMax = kRowsFirst, heardAt = 0, last = null;

// --- words and numbers ---

const whole = new Intl.NumberFormat('en');
const count = (n) => whole.format(n);
const fixed = (n, digits) => (n === null ? '–' : n.toFixed(digits));
function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) { n /= 1000; ++unit; }
  return `${unit === 0 ? Math.round(n) : n.toPrecision(3)} ${units[unit]}`;
}
function span(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
}
const sum = (list) => list.reduce((a, b) => a + b, 0);
const share = (part, of) => (of > 0 ? `${(100 * part / of).toFixed(part === of || part === 0 ? 0 : 1)} %` : '');

// --- writing without flicker ---

function write(element, text) { if (element.textContent !== text) element.textContent = text; }
function figure(name, text) { write(document.querySelector(`[data-figure="${name}"]`), text); }
function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
// So many children of `parent`, each made once and then filled again.
function fill(parent, items, create, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, i) => {
    const child = parent.children[i] ?? parent.appendChild(create());
    update(child, item);
  });
}

// --- parts of the page ---

function showState(task) {
  const complete = task.rounds_wanted > 0 && task.rounds_committed >= task.rounds_wanted;
  const state = task.in_flight || task.step ? 'running' : complete ? 'complete' : 'waiting';
  byId('state').dataset.state = state;
  write(byId('state'), state === 'waiting' ? 'waiting for clients' : state);
  write(byId('task'), task.name);
  const title = `${task.name} ${task.rounds_committed}/${task.rounds_wanted} · Chorus`;
  if (document.title !== title) document.title = title;
}

function change(points, key, digits) {
  if (points.length < 2) return '';
  const by = points[points.length - 1][key] - points[points.length - 2][key];
  return `${by < 0 ? '−' : '+'}${Math.abs(by).toFixed(digits)} in a round`;
}

function showFigures(task, ended) {
  const evaluated = ended.filter((r) => r.state === 'committed' && r.evaluated > 0);
  const latest = evaluated[evaluated.length - 1];
  figure('committed', count(task.rounds_committed));
  const other = task.rounds_begun - task.rounds_committed - (task.in_flight ? 1 : 0);
  figure('wanted', `of ${count(task.rounds_wanted)}${other > 0 ? ` · ${count(other)} aborted` : ''}`);
  figure('clients', count(task.clients));
  figure('committee', task.committee ? `committee: ${task.committee.present} of ${task.committee.members}` : '');
  figure('accuracy', latest ? fixed(latest.accuracy, 4) : '–');
  figure('accuracy-change', latest ? change(evaluated, 'accuracy', 4) : 'nobody evaluated yet');
  figure('loss', latest ? fixed(latest.loss, 4) : '–');
  figure('loss-change', latest ? change(evaluated, 'loss', 4) : '');
  const invited = sum(ended.map((r) => r.invited)), lost = sum(ended.map((r) => sum(r.dropouts)));
  figure('dropout-share', invited > 0 ? share(lost, invited) : '–');
  figure('dropout-count', invited > 0 ? `${count(lost)} of ${count(invited)} invited` : '');
  const up = sum(ended.map((r) => r.bytes_up)), down = sum(ended.map((r) => r.bytes_down));
  figure('bytes', invited > 0 ? bytes(up) : '–');
  figure('bytes-sent', invited > 0 ? `${bytes(down)} sent` : '');
  const meter = byId('progress');
  meter.setAttribute('aria-valuemax', task.rounds_wanted);
  meter.setAttribute('aria-valuenow', task.rounds_committed);
  meter.firstElementChild.style.width = `${100 * Math.min(1, task.rounds_committed / (task.rounds_wanted || 1))}%`;
}

function nowText(task, ended) {
  const now = task.in_flight;
  if (now) {
    const cohorts = now.cohorts > 1 ? ` in ${now.cohorts} cohorts` : '';
    return [`Round ${count(now.round)}`, ` · ${count(now.invited)} invited${cohorts} · ${task.step}: ` +
      `${count(now.answered)} of ${count(now.asked)} answered · for ${span(now.running_ms / 1000)}`];
  }
  const before = ended[ended.length - 1];
  const after = before && before.state === 'aborted' ? ` Round ${before.round} aborted: ${before.reason}.` : '';
  if (task.step) return ['Recording the round', '; nothing else begins until it is durable.'];
  if (task.rounds_committed >= task.rounds_wanted) {
    return ['The task is complete', ` after ${count(task.rounds_begun)} rounds.${after}`];
  }
  return ['No round is open', `; the next begins once enough of the clients wait for it.${after}`];
}

function showNow(task, ended) {
  const [strong, rest] = nowText(task, ended);
  const lead = byId('now');
  if (!lead.firstElementChild) lead.replaceChildren(make('strong'), make('span'));
  write(lead.children[0], strong);
  write(lead.children[1], rest);
  const now = task.in_flight;
  const open = now ? now.dropouts.length : 0;
  fill(byId('steps'), now ? task.steps : [], () => {
    const item = make('li');
    const track = make('div', 'track');
    track.append(make('i'));
    item.append(track, make('b'), make('span'));
    return item;
  }, (item, step) => {
    const i = task.steps.indexOf(step);
    const [track, name, note] = item.children;
    item.dataset.is = i < open ? 'done' : i === open ? 'open' : 'later';
    if (i === open) item.setAttribute('aria-current', 'step'); else item.removeAttribute('aria-current');
    track.firstElementChild.style.width = i === open ? `${100 * now.answered / (now.asked || 1)}%` : '';
    write(name, step.name);
    name.title = step.name;
    const lost = i < open ? now.dropouts[i] : 0;
    note.className = lost > 0 ? 'lost' : '';
    write(note, i < open ? (lost > 0 ? `${count(lost)} lost` : 'all answered') : i === open ? `${now.answered} of ${now.asked}` : '');
  });
}

function showBars(table, bars, none) {
  const body = table.tBodies[0];
  if (bars.length === 0) {
    body.replaceChildren(make('tr'));
    body.firstElementChild.append(make('td', 'empty', none));
    return;
  }
  if (body.querySelector('.empty')) body.replaceChildren();
  fill(body, bars, () => {
    const row = make('tr');
    const name = make('th'), place = make('td'), track = make('div', 'track');
    name.scope = 'row';
    track.append(make('i'));
    place.append(track);
    row.append(name, place, make('td', 'number'), make('td', 'share'));
    return row;
  }, (row, bar) => {
    write(row.children[0], bar.name);
    row.children[1].firstElementChild.firstElementChild.style.width = `${100 * bar.of}%`;
    write(row.children[2], bar.value);
    write(row.children[3], bar.share);
  });
}

function showCohort(task, ended) {
  const round = task.in_flight ?? ended[ended.length - 1];
  write(byId('funnel-round'), round ? `round ${count(round.round)}${task.in_flight ? ', so far' : ''}` : '');
  const widest = round ? Math.max(task.clients, round.invited, 1) : 1;
  const bar = (name, n) => ({ name, value: count(n), of: Math.min(1, n / widest), share: name === 'Checked in' ? '' : share(n, round.invited) });
  showBars(byId('funnel'), round ? [bar('Checked in', task.clients), bar('Invited', round.invited), bar('Trained', round.trained),
    bar('Uploaded', round.uploaded), bar('In the sum', round.in_sum)] : [], 'No round yet.');
  const asked = sum(ended.map((r) => r.invited));
  const lost = task.steps.map((step, i) => ({ name: step.name, n: sum(ended.map((r) => r.dropouts[i] ?? 0)) }));
  const most = Math.max(1, ...lost.map((l) => l.n));
  write(byId('dropouts-rounds'), ended.length ? `${count(ended.length)} rounds` : '');
  showBars(byId('dropouts'), ended.length ? lost.map((l) => ({ name: l.name, value: count(l.n), of: l.n / most, share: share(l.n, asked) })) : [],
    'No round yet.');
}

function showCharts(task, ended) {
  const aborted = ended.filter((r) => r.state === 'aborted').map((r) => r.round);
  const committed = ended.filter((r) => r.state === 'committed');
  const evaluated = committed.filter((r) => r.evaluated > 0 && r.loss !== null);
  const none = 'Nobody has evaluated a model yet.';
  drawChart(byId('accuracy-chart'), { points: evaluated.map((r) => ({ x: r.round, y: r.accuracy })), aborted, max: 1, format: (y) => y.toFixed(3), none });
  drawChart(byId('loss-chart'), { points: evaluated.map((r) => ({ x: r.round, y: r.loss })), aborted, fromZero: true, format: (y) => y.toPrecision(3), none });
  const each = (n, r) => n / Math.max(1, r.invited);
  drawChart(byId('bytes-chart'), { points: ended.map((r) => ({ x: r.round, y: each(r.bytes_up, r), y2: each(r.bytes_down, r) })), aborted, fromZero: true,
    format: bytes, names: ['received', 'sent'], none: 'No round has ended yet.' });
  drawChart(byId('duration-chart'), { points: ended.map((r) => ({ x: r.round, y: r.duration_ms / 1000 })), aborted, fromZero: true,
    format: (y) => y.toFixed(y === 0 || y >= 10 ? 0 : y < 1 ? 2 : 1), none: 'No round has ended yet.' });
}

function showRounds(task) {
  const newest = task.rounds.slice().reverse();
  if (task.in_flight) {
    const at = newest.findIndex((r) => r.round === task.in_flight.round);
    if (at >= 0) newest[at] = { ...task.in_flight, duration_ms: task.in_flight.running_ms };
  }
  const body = byId('rounds').tBodies[0];
  fill(body, newest.slice(0, rowsMax), () => {
    const row = make('tr');
    for (let i = 0; i < 12; ++i) row.append(make('td'));
    row.lastElementChild.className = 'text';
    row.children[1].append(make('span'));
    return row;
  }, (row, r) => {
    const mark = row.children[1].firstElementChild;
    mark.className = `mark ${r.state}`;
    const cohorts = r.cohorts > 1 && r.state !== 'open' ? `${r.cohorts_committed} of ${r.cohorts} cohorts` : '';
    const cells = [count(r.round), null, count(r.in_sum), count(r.invited), count(sum(r.dropouts)), count(r.refused),
      r.evaluated > 0 ? fixed(r.accuracy, 4) : '–', r.evaluated > 0 ? fixed(r.loss, 4) : '–', bytes(r.bytes_up), bytes(r.bytes_down),
      (r.duration_ms / 1000).toFixed(1), [cohorts, r.reason].filter(Boolean).join(' · ')];
    cells.forEach((text, i) => { if (i !== 1) write(row.children[i], text); });
    write(mark, r.state);
  });
  write(byId('rounds-shown'), newest.length === 0 ? 'none yet' : task.rounds_begun > newest.length ? `the last ${count(newest.length)}` : '');
  byId('more').hidden = newest.length <= rowsMax;
}

function showProcesses(processes) {
  fill(byId('processes').tBodies[0], processes, () => {
    const row = make('tr');
    for (let i = 0; i < 8; ++i) row.append(make('td', i < 2 ? 'text' : ''));
    return row;
  }, (row, p) => {
    const up = p.started_unix_seconds > 0 ? span(Math.max(0, Date.now() / 1000 - p.started_unix_seconds)) : '–';
    [p.name, p.version, up, span(p.cpu_seconds), bytes(p.resident_bytes), bytes(p.resident_bytes_max), count(p.threads), count(p.open_files)]
      .forEach((text, i) => write(row.children[i], text));
  });
}

function showPeers(peers) {
  byId('shared').hidden = peers.length === 0;
  fill(byId('peers').tBodies[0], peers, () => {
    const row = make('tr');
    for (let i = 0; i < 4; ++i) row.append(make('td', i < 2 ? 'text' : ''));
    return row;
  }, (row, p) => [p.name, p.address || '–', count(p.cohorts), `${span(p.age_seconds)} ago`].forEach((text, i) => write(row.children[i], text)));
}

function showChooser(tasks) {
  byId('chooser').hidden = tasks.length < 2;
  fill(byId('tasks'), tasks, () => make('option'), (option, task) => write(option, task.name));
}

function show(status) {
  last = status;
  showChooser(status.tasks);
  const task = status.tasks.find((t) => t.name === chosen) ?? status.tasks[0];
  showProcesses(status.processes);
  showPeers(status.peers);
  if (!task) return;
  const ended = task.rounds.filter((r) => r.state !== 'open');
  showState(task);
  showFigures(task, ended);
  showNow(task, ended);
  showCohort(task, ended);
  showCharts(task, ended);
  showRounds(task);
}

// --- the loop ---

function complain(text) {
  byId('notice').hidden = text === '';
  write(byId('notice'), text);
}

async function refresh() {
  try {
    const answer = await fetch('status.json', { cache: 'no-store', signal: AbortSignal.timeout(8000) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const status = await answer.json();
    heardAt = Date.now() - 1000 * status.age_seconds;
    complain(status.age_seconds > 5 ? `The coordinator is busy; these figures are ${span(status.age_seconds)} old.` : '');
    show(status);
  } catch (error) {
    byId('state').dataset.state = 'unreachable';
    write(byId('state'), 'unreachable');
    complain(heardAt ? `The coordinator does not answer; these figures are ${span((Date.now() - heardAt) / 1000)} old.`
      : `The coordinator does not answer: ${error.message}`);
  }
  write(byId('fresh'), heardAt ? `as of ${new Date(heardAt).toLocaleTimeString()}` : '');
}

async function follow() {
  if (!document.hidden) await refresh();
  setTimeout(follow, kPeriodMs);
}

byId('tasks').addEventListener('change', (event) => { chosen = event.target.value; show(last); });
byId('more').addEventListener('click', () => { rowsMax = Infinity; if (last) show(last); });
addEventListener('resize', () => { if (last) show(last); });
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
follow();
