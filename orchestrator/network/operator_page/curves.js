// Draws curves as SVG from rounds; a picture says in words what it shows.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 200;
const MARGIN = { top: 10, right: 12, bottom: 26, left: 46 };
const MOST_POINTS = 400;

function draw(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.textContent = text;
  return element;
}

/** Returns round steps that cover the range: [0, 5, 10] for 0 to 9. */
function ticks(low, high, most, whole) {
  const rough = Math.max((high - low) / most, whole ? 1 : 1e-9);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((own) => own >= rough * 0.999 && (!whole || own >= 1));
  const found = [];
  for (let at = Math.floor(low / step + 1e-9); at * step < high + step * 0.999; at++) found.push(at * step);
  return found;
}

/** Every nth point, and the last, if there are more than a screen shows. */
function thinned(points) {
  const every = Math.ceil(points.length / MOST_POINTS);
  return points.filter((_, index) => index % every === 0 || index === points.length - 1);
}

function axes(svg, width, x, y, xs, ys, tick) {
  for (const value of ys) {
    svg.append(
      draw("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      draw("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value)),
    );
  }
  for (const value of xs) svg.append(draw("text", { x: x(value), y: HEIGHT - 8, "text-anchor": "middle" }, String(value)));
}

/** Returns a figure: curves by round.
 *  series: [{ name, colour (a class), points: [[round, value], ...] }], each with a point.
 *  say and tick write a value, beside the curve and at the axis. */
export function curves(title, series, width, say, tick, fromZero = false) {
  const all = series.flatMap((own) => own.points);
  const rounds = all.map(([round]) => round);
  const values = all.map(([, value]) => value);
  const [first, last] = [Math.min(...rounds), Math.max(...rounds)];
  const low = fromZero ? 0 : Math.min(...values);
  const high = Math.max(...values);
  const ys = ticks(low, high > low ? high : low + (Math.abs(low) || 1) * 0.1, 4, false);
  const xs = ticks(first, last, Math.max(2, Math.floor(width / 90)), true).filter((at) => at >= first && at <= last);
  const x = (round) => MARGIN.left + ((round - first + (first === last ? 0.5 : 0)) / (last - first || 1)) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => HEIGHT - MARGIN.bottom - ((value - ys[0]) / (ys[ys.length - 1] - ys[0])) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const newest = series.map((own) => `${own.name} ${say(own.points[own.points.length - 1][1])}`).join(", ");
  const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": `${title} by round; at last ${newest}` });
  axes(svg, width, x, y, xs, ys, tick);
  for (const own of series) {
    const points = thinned(own.points).map(([round, value]) => [x(round), y(value)]);
    svg.append(draw("polyline", { class: `curve ${own.colour}`, points: points.map((at) => at.map((number) => number.toFixed(1)).join(",")).join(" ") }));
    const [cx, cy] = points[points.length - 1];
    svg.append(draw("circle", { class: own.colour, cx, cy, r: 3 }));
  }
  const caption = document.createElement("figcaption");
  caption.append(`${title} by round. `, ...series.map((own) => keyOf(own, say)));
  const figure = document.createElement("figure");
  figure.append(svg, caption);
  return figure;
}

function keyOf(own, say) {
  const key = document.createElement("span");
  key.className = "key";
  const sample = draw("svg", { viewBox: "0 0 20 10", "aria-hidden": "true" });
  sample.append(draw("line", { class: `curve ${own.colour}`, x1: 0, x2: 20, y1: 5, y2: 5 }));
  key.append(sample, `${own.name}: ${say(own.points[own.points.length - 1][1])}`);
  return key;
}
