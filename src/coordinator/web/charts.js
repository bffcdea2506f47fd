// Lines over rounds as SVG. A chart is drawn anew only when its points or its width change, so that it does not flicker,
// and can be read without eyes (its label), without a mouse (arrow keys) and without colour (a dashed second line).

const kSvg = 'http://www.w3.org/2000/svg';
const kLeft = 46, kRight = 10, kTop = 8, kBottom = 20;

function shape(name, attributes, text) {
  const element = document.createElementNS(kSvg, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Round values around [low, high], at most `count` steps of 1, 2 or 5 times a power of ten.
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const values = [];
  for (let i = Math.floor(low / step + 1e-9); i * step < high + step * (1 - 1e-9); ++i) values.push(i * step);
  return values;
}

// {points: [{x, y, y2?}], aborted: [x], format, fromZero, max, names: [first, second], none}
export function drawChart(holder, spec) {
  const width = Math.max(holder.clientWidth, 200), height = spec.points.length === 0 ? 56 : 168;
  const key = JSON.stringify([spec.points, spec.aborted, width, height]);
  if (holder.dataset.key === key) return;
  holder.classList.toggle('none', spec.points.length === 0);
  holder.dataset.key = key;
  const svg = shape('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: spec.points.length ? 0 : -1 });
  const readout = document.createElement('output');
  const { points } = spec;
  if (points.length === 0) {
    svg.setAttribute('aria-label', spec.none);
    svg.append(shape('text', { x: width / 2, y: height / 2, class: 'none' }, spec.none));
    holder.replaceChildren(svg);
    return;
  }
  const scale = scaleOf(spec, width, height);
  drawAxes(svg, spec, scale, width, height);
  drawLine(svg, points.map((p) => [scale.x(p.x), scale.y(p.y)]), '');
  if (points[0].y2 !== undefined) drawLine(svg, points.map((p) => [scale.x(p.x), scale.y(p.y2)]), 'second ');
  const cursor = shape('line', { class: 'cursor', y1: kTop, y2: height - kBottom, visibility: 'hidden' });
  svg.append(cursor);
  const say = (p) => {
    const second = p.y2 === undefined ? '' : ` · ${spec.names[1]} ${spec.format(p.y2)}`;
    const first = p.y2 === undefined ? '' : `${spec.names[0]} `;
    return `round ${p.x}: ${first}${spec.format(p.y)}${second}`;
  };
  svg.setAttribute('aria-label', `${points.length} rounds, the last ${say(points[points.length - 1])}. Arrow keys read others.`);
  follow(svg, { points, scale, cursor, readout, say, width });
  holder.replaceChildren(svg, readout);
}

function scaleOf(spec, width, height) {
  const ys = spec.points.flatMap((p) => (p.y2 === undefined ? [p.y] : [p.y, p.y2]));
  let low = spec.fromZero ? 0 : Math.min(...ys), high = Math.max(...ys);
  if (high - low < 1e-9) high = low + (Math.abs(low) || 1) * 0.1;
  const marks = ticks(low, high, 4);
  [low, high] = [marks[0], Math.min(marks[marks.length - 1], spec.max ?? Infinity)];
  if (high <= low) high = low + 1;
  const xs = spec.points.map((p) => p.x).concat(spec.aborted);
  const first = Math.min(...xs), last = Math.max(...xs, first + 1);
  return {
    marks: marks.filter((m) => m <= high + 1e-9), first, last,
    x: (x) => kLeft + (x - first) / (last - first) * (width - kLeft - kRight),
    y: (y) => height - kBottom - (y - low) / (high - low) * (height - kTop - kBottom),
  };
}

function drawAxes(svg, spec, scale, width, height) {
  const floor = height - kBottom;
  for (const mark of scale.marks) {
    const y = scale.y(mark);
    svg.append(shape('line', { class: 'rule', x1: kLeft, x2: width - kRight, y1: y, y2: y }),
      shape('text', { x: kLeft - 8, y: y + 4, 'text-anchor': 'end' }, spec.format(mark)));
  }
  svg.append(shape('line', { class: 'axis', x1: kLeft, x2: width - kRight, y1: floor, y2: floor }));
  for (const mark of ticks(scale.first, scale.last, Math.max(2, Math.min(8, Math.floor(width / 80))))) {
    if (mark < scale.first || mark > scale.last || mark % 1 !== 0) continue;
    svg.append(shape('text', { x: scale.x(mark), y: height - 5, 'text-anchor': 'middle' }, String(mark)));
  }
  for (const x of spec.aborted) {
    const mark = shape('line', { class: 'aborted', x1: scale.x(x), x2: scale.x(x), y1: floor - 5, y2: floor });
    mark.append(shape('title', {}, `round ${x} aborted`));
    svg.append(mark);
  }
}

function drawLine(svg, places, kind) {
  const path = places.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
  svg.append(shape('path', { class: `${kind}line`, d: path }));
  const dots = places.length <= 60 ? places : places.slice(-1);
  for (const [cx, cy] of dots) svg.append(shape('circle', { class: `${kind}dot`, cx, cy, r: places.length <= 60 ? 2.2 : 3 }));
}

// Pointer and arrow keys choose the point that is read out.
function follow(svg, { points, scale, cursor, readout, say, width }) {
  let at = points.length - 1;
  const show = (index) => {
    at = Math.max(0, Math.min(points.length - 1, index));
    const x = scale.x(points[at].x);
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    cursor.setAttribute('visibility', 'visible');
    readout.textContent = say(points[at]);
  };
  const hide = () => {
    cursor.setAttribute('visibility', 'hidden');
    readout.textContent = '';
  };
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * width / box.width;
    let best = 0;
    points.forEach((p, i) => { if (Math.abs(scale.x(p.x) - x) < Math.abs(scale.x(points[best].x) - x)) best = i; });
    show(best);
  });
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('blur', hide);
  svg.addEventListener('focus', () => { if (svg.matches(':focus-visible')) show(at); });
  svg.addEventListener('keydown', (event) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: points.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}
