// A heat map for each link: time runs to the right, latency upwards, a square is as strong as its rows are many.

import { find, html, keyed, setAttribute, setText } from "./dom.js";
import { clock, count, isOwn, linkName, rate, reach, span } from "./words.js";
import { colour } from "./theme.js";

const MARGIN = { left: 46, bottom: 16, top: 2 };
const CLASS_HEIGHT = 8;
const LABELLED_MS = [10, 60, 150, 1_000, 10_000];

export function showHeat(state) {
  const { bounds_ms: bounds, links, columns } = state.history;
  const places = links.map(([from, to], place) => ({ from, to, place })).sort((a, b) => isOwn(a) - isOwn(b));
  keyed(find("#heat"), places, (link) => `${link.from}>${link.to}`, makeStrip, (strip, link) => {
    const [heading, canvas] = strip.children;
    setText(heading.firstElementChild, linkName(link));
    const latest = state.links.find((other) => other.from === link.from && other.to === link.to);
    setText(heading.lastElementChild, latest ? rate(latest.applied_per_second) : "");
    draw(canvas, columns, link.place, bounds, state);
    strip.look = (event) => tell(strip, event, columns, link.place, bounds, state);
  });
  if (find("#latency details").open) showTable(places, state);
}

function makeStrip() {
  const canvas = html("canvas", { role: "img" });
  const strip = html("div", { class: "strip" }, html("h3", {}, html("span"), html("span")), canvas, html("p", { class: "readout", "aria-hidden": "true" }));
  canvas.addEventListener("pointermove", (event) => strip.look(event));
  canvas.addEventListener("pointerleave", () => setText(strip.lastElementChild, ""));
  return strip;
}

/** The class of latency that a lag falls into, with its fraction: the lag's line runs through the squares. */
function heightOf(lag, bounds) {
  const index = bounds.findIndex((bound) => lag <= bound);
  if (index < 0) return bounds.length + 0.5;
  const below = index === 0 ? 0 : bounds[index - 1];
  return index + (lag - below) / (bounds[index] - below);
}

function draw(canvas, columns, place, bounds, state) {
  const classes = bounds.length + 1;
  const width = canvas.clientWidth;
  const height = classes * CLASS_HEIGHT + MARGIN.top + MARGIN.bottom;
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const floor = height - MARGIN.bottom;
  const xOf = (at) => MARGIN.left + (width - MARGIN.left) * (1 - (state.now_ms - at) / reach(state));
  const yOf = (lag) => floor - heightOf(lag, bounds) * CLASS_HEIGHT;
  drawSquares(pen, columns, place, bounds, state, xOf, floor);
  drawScales(pen, width, floor, xOf, yOf, state);
  drawLag(pen, columns, place, xOf, yOf);
  setAttribute(canvas, "aria-label", summary(columns, place, bounds));
}

function drawSquares(pen, columns, place, bounds, state, xOf, floor) {
  const colours = { fine: colour("heat-fine"), slow: colour("heat-slow"), bad: colour("heat-bad") };
  const most = Math.max(1, ...columns.flatMap((column) => column.rows[place] ?? [0]));
  for (const [index, column] of columns.entries()) {
    const rows = column.rows[place];
    if (!rows) continue;
    const right = xOf(column.at_ms);
    const left = Math.max(MARGIN.left, index > 0 ? xOf(columns[index - 1].at_ms) : right - 1);
    if (right <= MARGIN.left) continue;
    rows.forEach((number, which) => {
      if (number === 0) return;
      const bound = bounds[which] ?? Infinity;
      pen.fillStyle = bound <= state.lag_ms_promised ? colours.fine : bound <= state.lag_ms_promised * 10 ? colours.slow : colours.bad;
      pen.globalAlpha = 0.18 + 0.82 * (Math.log1p(number) / Math.log1p(most));
      pen.fillRect(left, floor - (which + 1) * CLASS_HEIGHT, Math.max(0.8, right - left), CLASS_HEIGHT - 1);
    });
  }
  pen.globalAlpha = 1;
}

function drawScales(pen, width, floor, xOf, yOf, state) {
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = colour("faint");
  pen.strokeStyle = colour("line");
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const lag of LABELLED_MS) pen.fillText(span(lag).replace(".0", ""), MARGIN.left - 6, yOf(lag));
  pen.textBaseline = "bottom";
  pen.textAlign = "left";
  const whole = reach(state);
  for (const [back, align] of [[whole, "left"], [whole / 2, "center"], [0, "right"]]) {
    pen.textAlign = align;
    pen.fillText(back === 0 ? "now" : `${span(back).replace(" 0 s", "")} ago`, xOf(state.now_ms - back), floor + MARGIN.bottom);
  }
  pen.setLineDash([]);
  line(pen, MARGIN.left, floor + 0.5, width, floor + 0.5);
  pen.strokeStyle = colour("faint");
  pen.setLineDash([3, 3]);
  line(pen, MARGIN.left, yOf(state.lag_ms_promised), width, yOf(state.lag_ms_promised));
  pen.setLineDash([]);
}

function line(pen, fromX, fromY, toX, toY) {
  pen.beginPath();
  pen.moveTo(fromX, fromY);
  pen.lineTo(toX, toY);
  pen.stroke();
}

function drawLag(pen, columns, place, xOf, yOf) {
  pen.strokeStyle = colour("ink");
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  pen.beginPath();
  let down = false;
  for (const column of columns) {
    const lag = column.lag_ms[place];
    const x = xOf(column.at_ms);
    if (!lag || x < MARGIN.left) {
      down = false;
      continue;
    }
    if (down) pen.lineTo(x, yOf(lag[2]));
    else pen.moveTo(x, yOf(lag[2]));
    down = true;
  }
  pen.stroke();
}

/** The latency that a share of the rows kept within, as the bound of its class. */
function within(rows, share, bounds) {
  const whole = rows.reduce((sum, number) => sum + number, 0);
  if (whole === 0) return "–";
  let passed = 0;
  const which = rows.findIndex((number) => (passed += number) >= whole * share);
  return which < bounds.length ? `≤ ${span(bounds[which])}` : `> ${span(bounds[bounds.length - 1])}`;
}

function together(columns, place) {
  const sum = [];
  for (const column of columns) column.rows[place]?.forEach((number, which) => (sum[which] = (sum[which] ?? 0) + number));
  return sum;
}

function summary(columns, place, bounds) {
  const rows = together(columns, place);
  return `99 of 100 rows ${within(rows, 0.99, bounds)}, half of them ${within(rows, 0.5, bounds)}. A table follows the graphs.`;
}

function tell(strip, event, columns, place, bounds, state) {
  const canvas = strip.children[1];
  const share = (event.offsetX - MARGIN.left) / (canvas.clientWidth - MARGIN.left);
  const at = state.now_ms - reach(state) * (1 - share);
  const column = columns.reduce((best, other) => (!best || Math.abs(other.at_ms - at) < Math.abs(best.at_ms - at) ? other : best), null);
  if (!column || Math.abs(column.at_ms - at) > 3_000) {
    setText(strip.lastElementChild, "");
    return;
  }
  const rows = column.rows[place] ?? [];
  const number = rows.reduce((sum, one) => sum + one, 0);
  const lag = column.lag_ms[place];
  const speed = number === 0 ? "no rows" : `${count(number)} rows, half ${within(rows, 0.5, bounds)}, 99 % ${within(rows, 0.99, bounds)}`;
  setText(strip.lastElementChild, `${clock(column.at_ms)}: ${speed}; lag ${lag ? span(lag[2]) : "–"}`);
}

function showTable(links, state) {
  const { bounds_ms: bounds, columns } = state.history;
  const minutes = new Map();
  for (const column of columns) {
    const minute = Math.floor(column.at_ms / 60_000);
    if (!minutes.has(minute)) minutes.set(minute, []);
    minutes.get(minute).push(column);
  }
  const newest = [...minutes.entries()].reverse();
  const head = html("tr", {}, html("th", { scope: "col" }, "Minute"), ...links.map((link) => html("th", { scope: "col" }, linkName(link))));
  find("#heat-table thead").replaceChildren(head);
  const rows = newest.map(([minute, columns]) =>
    html("tr", {}, html("th", { scope: "row" }, clock(minute * 60_000).slice(0, 5)), ...links.map((link) => html("td", {}, cell(columns, link.place, bounds)))),
  );
  find("#heat-table tbody").replaceChildren(...rows);
}

function cell(columns, place, bounds) {
  const rows = together(columns, place);
  const lag = Math.max(...columns.map((column) => column.lag_ms[place]?.[2] ?? 0));
  return `${within(rows, 0.5, bounds)}, ${within(rows, 0.99, bounds)}; lag ${span(lag)}`;
}
