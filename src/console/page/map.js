// The regions and the links between them. In the demo a link is a button: it cuts and heals.

import { find, keyed, setAttribute, setText, svg } from "./dom.js";
import { count, isOwn, lagOf, levelOf, rate, span } from "./words.js";

const NODE = { width: 112, height: 60 };
const PILL_HEIGHT = 22;
/** How far each of a pair's two ways bends away from the straight line, and where on its way its lag stands. */
const BEND = 16;
const PILL_AT = 0.4;

export function showMap(state, onSwitch) {
  const figure = find("#map");
  const width = Math.max(280, figure.clientWidth);
  const places = placesOf(state, width);
  const height = Math.max(...[...places.values()].map((place) => place.y)) + NODE.height / 2 + 14;
  let drawing = figure.firstElementChild;
  if (!drawing) {
    drawing = svg("svg", { role: "group", "aria-label": "Regions and links" }, svg("g"), svg("g"));
    figure.append(drawing);
  }
  setAttribute(drawing, "aria-hidden", state.switchable ? null : "true");
  setAttribute(drawing, "viewBox", `0 0 ${width} ${height}`);
  setAttribute(drawing, "height", height);
  const [links, nodes] = drawing.children;
  const between = state.links.filter((link) => !isOwn(link));
  keyed(links, between, (link) => `${link.from}>${link.to}`, () => makeLink(state, onSwitch), (group, link) => {
    group.link = link;
    updateLink(group, link, places, state);
  });
  keyed(nodes, [...places.keys()], (name) => name, makeNode, (group, name) => updateNode(group, name, places.get(name), state));
}

/** On a circle; a worker's own region stands below its peers. */
function placesOf(state, width) {
  const names = state.about.regions;
  const places = new Map();
  const margin = NODE.width / 2 + 4;
  if (state.about.mode === "worker") {
    const [own, ...peers] = names;
    peers.forEach((name, index) => {
      const share = peers.length === 1 ? 0.5 : index / (peers.length - 1);
      places.set(name, { x: margin + share * (width - 2 * margin), y: 38 + (index % 2) * (peers.length > 3 ? 44 : 0) });
    });
    places.set(own, { x: width / 2, y: peers.length === 0 ? 38 : 250 });
    return places;
  }
  const radius = { x: Math.min(width / 2 - margin, 220), y: names.length < 3 ? 20 : 150 };
  names.forEach((name, index) => {
    const angle = (2 * Math.PI * index) / names.length - (names.length === 3 ? Math.PI * 5 / 6 : Math.PI);
    places.set(name, { x: width / 2 + radius.x * Math.cos(angle), y: radius.y + 38 + radius.y * Math.sin(angle) });
  });
  const highest = Math.min(...[...places.values()].map((place) => place.y));
  for (const place of places.values()) place.y += 38 - highest;
  return places;
}

function makeLink(state, onSwitch) {
  const group = svg(
    "g",
    { class: "link" },
    svg("path", { class: "reach" }),
    svg("path", { class: "line" }),
    svg("path", { class: "flow" }),
    svg("path", { class: "head" }),
    svg("g", { class: "pill" }, svg("rect", { rx: PILL_HEIGHT / 2, height: PILL_HEIGHT }), svg("text", { "text-anchor": "middle", dy: "0.35em" })),
  );
  if (!state.switchable) return group;
  setAttribute(group, "role", "button");
  setAttribute(group, "tabindex", 0);
  const act = () => onSwitch(group.link);
  group.addEventListener("click", act);
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act();
  });
  return group;
}

function updateLink(group, link, places, state) {
  const [reach, line, flow, head, pill] = group.children;
  const level = levelOf(link, state.lag_ms_promised);
  const curve = curveOf(places.get(link.from), places.get(link.to));
  const cut = link.up === false;
  setAttribute(group, "data-level", level);
  setAttribute(group, "data-cut", cut || null);
  setAttribute(group, "data-idle", link.polled_per_second < 0.5 || cut || null);
  for (const path of [reach, line, flow]) setAttribute(path, "d", curve.path);
  setAttribute(head, "d", curve.head);
  const lag = lagOf(link);
  const text = `${cut ? "✂ " : ""}${lag === null ? "–" : span(lag)}`;
  const [rect, label] = pill.children;
  const wide = text.length * 7.4 + 18;
  setText(label, text);
  setAttribute(rect, "width", wide);
  setAttribute(rect, "x", -wide / 2);
  setAttribute(rect, "y", -PILL_HEIGHT / 2);
  setAttribute(pill, "transform", `translate(${curve.pill.x} ${curve.pill.y})`);
  if (state.switchable) {
    setAttribute(group, "aria-label", `${cut ? "Heal" : "Cut"} the link from ${link.from} to ${link.to}`);
  }
}

/** A quadratic curve from edge to edge that keeps to the right of its own way. */
function curveOf(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const side = { x: -dy / length, y: dx / length };
  const control = { x: (from.x + to.x) / 2 + side.x * BEND * 2, y: (from.y + to.y) / 2 + side.y * BEND * 2 };
  const start = edgeOf(from, control);
  const end = edgeOf(to, control);
  const along = (axis) => (1 - PILL_AT) ** 2 * start[axis] + 2 * PILL_AT * (1 - PILL_AT) * control[axis] + PILL_AT ** 2 * end[axis];
  const angle = Math.atan2(end.y - control.y, end.x - control.x);
  const barb = (turn) => `${end.x - 10 * Math.cos(angle + turn)} ${end.y - 10 * Math.sin(angle + turn)}`;
  return {
    path: `M${start.x} ${start.y}Q${control.x} ${control.y} ${end.x} ${end.y}`,
    head: `M${barb(0.45)}L${end.x} ${end.y}L${barb(-0.45)}`,
    pill: { x: along("x"), y: along("y") },
  };
}

/** Where the way from a node's middle leaves its box, a little outside. */
function edgeOf(node, towards) {
  const [dx, dy] = [towards.x - node.x, towards.y - node.y];
  const scale = Math.min((NODE.width / 2 + 5) / Math.abs(dx || 1e-9), (NODE.height / 2 + 5) / Math.abs(dy || 1e-9), 1);
  return { x: node.x + dx * scale, y: node.y + dy * scale };
}

function makeNode() {
  const box = svg("rect", { x: -NODE.width / 2, y: -NODE.height / 2, width: NODE.width, height: NODE.height, rx: 12 });
  const text = (y, name) => svg("text", { class: name, "text-anchor": "middle", y });
  return svg("g", { class: "node" }, box, text(-8, "name"), text(9, "small"), text(23, "small"));
}

function updateNode(group, name, place, state) {
  const region = state.regions.find((region) => region.region === name);
  const own = state.links.find((link) => link.to === name && isOwn(link));
  setAttribute(group, "transform", `translate(${place.x} ${place.y})`);
  setAttribute(group, "data-level", own ? levelOf(own, state.lag_ms_promised) : "elsewhere");
  const [, title, first, second] = group.children;
  setText(title, name);
  if (!region) {
    setText(first, "peer");
    setText(second, "");
    return;
  }
  setText(first, region.rows === null ? `${count(region.entries)} keys` : `${count(region.rows)} rows`);
  setText(second, `${rate(region.applied_per_second)} applied`);
}
