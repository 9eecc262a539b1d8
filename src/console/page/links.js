// The links as a table: what the map shows, the last ten minutes, where the lag is spent, and the demo's switches.

import { find, html, keyed, setAttribute, setText, svg } from "./dom.js";
import { count, isOwn, lagOf, levelOf, linkName, rate, reach, span, stateOf } from "./words.js";

const SPARK = { width: 96, height: 26 };

export function showLinks(state, onSwitch) {
  setText(find("#spark-head"), `Last ${span(reach(state)).replace(" 0 s", "")}`);
  const links = [...state.links].sort((a, b) => isOwn(a) - isOwn(b));
  const make = () => makeRow(state, onSwitch);
  keyed(find("#links tbody"), links, (link) => `${link.from}>${link.to}`, make, (row, link) => updateRow(row, link, state));
}

function makeRow(state, onSwitch) {
  const spark = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "area" }),
    svg("path", { class: "line" }),
  );
  const legs = html("span", { class: "legs" }, html("i", { class: "link" }), html("i", { class: "merge" }), html("i", { class: "sink" }));
  const row = html(
    "tr",
    {},
    html("th", { scope: "row" }),
    html("td", { class: "number lag" }),
    html("td", { class: "wide" }, spark),
    html("td", { class: "wide" }, legs, html("span", { class: "unseen" })),
    html("td", { class: "number" }),
    html("td", { class: "number wide" }),
    html("td", { class: "state" }, html("span", { class: "word" })),
  );
  if (state.switchable) {
    const button = html("button", { type: "button", class: "switch", onclick: () => onSwitch(row.link) });
    row.lastElementChild.append(button);
  }
  return row;
}

function updateRow(row, link, state) {
  row.link = link;
  const [name, lag, spark, spent, applied, waiting, states] = row.children;
  setAttribute(row, "data-level", levelOf(link, state.lag_ms_promised));
  setText(name, linkName(link));
  setText(lag, lagOf(link) === null ? "–" : span(lagOf(link)));
  drawSpark(spark.firstElementChild, link, state);
  showLegs(spent, link);
  setText(applied, rate(link.applied_per_second));
  setText(waiting, count(link.open_records));
  const [word, button] = states.children;
  setText(word, stateOf(link, state.lag_ms_promised));
  if (!button) return;
  button.hidden = isOwn(link);
  setText(button, link.up === false ? "Heal" : "Cut");
  setAttribute(button, "aria-label", `${link.up === false ? "Heal" : "Cut"} the link from ${link.from} to ${link.to}`);
}

/** A logarithmic scale: both 60 ms and 60 s are to be seen. */
const heightOf = (lag) => (SPARK.height - 2) * Math.min(1, Math.log10(1 + lag) / 5);

function drawSpark(drawing, link, state) {
  const { links, columns } = state.history;
  const place = links.findIndex(([from, to]) => from === link.from && to === link.to);
  const whole = reach(state);
  const points = [];
  for (const column of columns) {
    const lag = column.lag_ms[place];
    if (!lag) continue;
    const x = SPARK.width * (1 - (state.now_ms - column.at_ms) / whole);
    if (x >= 0) points.push(`${x.toFixed(1)} ${(SPARK.height - 1 - heightOf(lag[2])).toFixed(1)}`);
  }
  const [area, line] = drawing.children;
  const path = points.length > 1 ? `M${points.join("L")}` : "";
  setAttribute(line, "d", path);
  const [first, last] = [points[0], points[points.length - 1]].map((point) => point?.split(" ")[0]);
  setAttribute(area, "d", path && `${path}L${last} ${SPARK.height}L${first} ${SPARK.height}Z`);
}

function showLegs(cell, link) {
  const { polled = 0, merged = 0, acknowledged = 0 } = link.lag_ms ?? {};
  const parts = [polled, Math.max(0, merged - polled), Math.max(0, acknowledged - merged)];
  const whole = parts.reduce((sum, part) => sum + part, 0);
  const [legs, words] = cell.children;
  [...legs.children].forEach((leg, index) => {
    leg.style.flexGrow = whole > 0 ? parts[index] / whole : 0;
  });
  const said = `link ${span(parts[0])}, merge ${span(parts[1])}, Milvus ${span(parts[2])}`;
  setAttribute(legs, "title", said);
  setText(words, said);
}
