// The topology as a graph: boxes in layers, an arrow for each edge with its rate, and under each box what ends there.

import { find, html, keyed, setAttribute, setText, svg } from "./dom.js";
import { rate } from "./words.js";

const BOX = { width: 132, height: 46 };
const END_HEIGHT = 17;
const ENDS_MAX = 4;
const LEVEL_GAP = { across: 74, down: 44 };

export function showFlow(state) {
  const chosen = chooseRegion(state);
  const regions = state.regions.filter((region) => chosen === "" || region.region === chosen);
  const nodes = nodesOf(state.about.topology, regions);
  drawGraph(find("#flow"), nodes);
  showTable(nodes);
}

function chooseRegion(state) {
  const label = find("#flow-of");
  const select = label.firstElementChild;
  label.hidden = state.regions.length < 2;
  const choices = [{ value: "", text: "all regions" }, ...state.regions.map((region) => ({ value: region.region, text: region.region }))];
  keyed(select, choices, (choice) => choice.value, (choice) => html("option", { value: choice.value }, choice.text), () => {});
  return select.value;
}

/** The source and the nodes, each with its rates summed over the regions and its layer. */
function nodesOf(topology, regions) {
  const source = { name: topology.source.name, type: "source", parents: [] };
  const nodes = [source, ...topology.nodes].map(({ name, type, parents }) => ({ name, type, parents, into: 0, out: 0, ends: {}, layer: 0 }));
  for (const node of nodes) {
    for (const region of regions) {
      const flow = region.flow.find((flow) => flow.node === node.name);
      if (!flow) continue;
      node.into += flow.into;
      node.out += flow.out;
      for (const [word, rate] of Object.entries(flow.ends)) node.ends[word] = (node.ends[word] ?? 0) + rate;
    }
    const parents = nodes.filter((other) => node.parents.includes(other.name));
    node.layer = parents.length === 0 ? 0 : 1 + Math.max(...parents.map((parent) => parent.layer));
  }
  return nodes;
}

function drawGraph(figure, nodes) {
  const layers = 1 + Math.max(...nodes.map((node) => node.layer));
  const across = figure.clientWidth >= layers * (BOX.width + 40);
  const places = across ? placesAcross(nodes, layers, figure.clientWidth) : placesDown(nodes, figure.clientWidth);
  const height = Math.max(...nodes.map((node) => places.get(node.name).y + (across ? BOX.height / 2 + endsOf(node).length * END_HEIGHT : BOX.height / 2))) + 12;
  let drawing = figure.firstElementChild;
  if (!drawing) {
    drawing = svg("svg", { "aria-hidden": "true" }, svg("g"), svg("g"));
    figure.append(drawing);
  }
  setAttribute(drawing, "viewBox", `0 0 ${figure.clientWidth} ${height}`);
  setAttribute(drawing, "height", height);
  const edges = nodes.flatMap((node) => node.parents.map((parent) => ({ from: nodes.find((other) => other.name === parent), to: node })));
  const most = Math.max(1, ...nodes.map((node) => node.into));
  keyed(drawing.children[0], edges, (edge) => `${edge.from.name}>${edge.to.name}`, makeEdge, (group, edge) => updateEdge(group, edge, places, across, most));
  keyed(drawing.children[1], nodes, (node) => node.name, makeNode, (group, node) => updateNode(group, node, places.get(node.name), across));
}

function placesAcross(nodes, layers, width) {
  const step = layers === 1 ? 0 : Math.min(BOX.width + LEVEL_GAP.across + 40, (width - BOX.width - 4) / (layers - 1));
  const used = new Map();
  const places = new Map();
  for (const node of nodes) {
    const row = used.get(node.layer) ?? 0;
    used.set(node.layer, row + 1);
    places.set(node.name, { x: BOX.width / 2 + 2 + node.layer * step, y: BOX.height / 2 + 4 + row * (BOX.height + END_HEIGHT * ENDS_MAX + 16) });
  }
  return places;
}

/** One below the other; what ends stands to the right. */
function placesDown(nodes, width) {
  const left = Math.min(BOX.width / 2 + 2, width / 4);
  return new Map(nodes.map((node, index) => [node.name, { x: left, y: BOX.height / 2 + 4 + index * (BOX.height + LEVEL_GAP.down) }]));
}

function makeEdge() {
  return svg("g", { class: "edge" }, svg("path", { class: "line" }), svg("path", { class: "head" }), svg("text", {}));
}

function updateEdge(group, { from, to }, places, across, most) {
  const [line, head, text] = group.children;
  const [a, b] = [places.get(from.name), places.get(to.name)];
  const [start, end] = across
    ? [{ x: a.x + BOX.width / 2, y: a.y }, { x: b.x - BOX.width / 2 - 2, y: b.y }]
    : [{ x: a.x, y: a.y + BOX.height / 2 }, { x: b.x, y: b.y - BOX.height / 2 - 2 }];
  setAttribute(line, "d", `M${start.x} ${start.y}L${end.x - (across ? 4 : 0)} ${end.y - (across ? 0 : 4)}`);
  setAttribute(line, "stroke-width", (1.5 + 4.5 * (from.out / most)).toFixed(1));
  setAttribute(head, "d", across ? `M${end.x - 7} ${end.y - 6}l8 6l-8 6z` : `M${end.x - 6} ${end.y - 7}l6 8l6 -8z`);
  setText(text, rate(from.out));
  setAttribute(text, "x", across ? (start.x + end.x) / 2 : start.x + 12);
  setAttribute(text, "y", across ? start.y - 9 : (start.y + end.y) / 2 + 4);
  setAttribute(text, "text-anchor", across ? "middle" : "start");
}

function makeNode() {
  const box = svg("rect", { x: -BOX.width / 2, y: -BOX.height / 2, width: BOX.width, height: BOX.height, rx: 10 });
  return svg("g", { class: "box" }, box, svg("text", { class: "name", "text-anchor": "middle", y: -3 }), svg("text", { class: "small", "text-anchor": "middle", y: 14 }), svg("g", { class: "ends" }));
}

const endsOf = (node) => Object.entries(node.ends).sort((a, b) => b[1] - a[1]).slice(0, ENDS_MAX);

function updateNode(group, node, place, across) {
  const [, name, small, ends] = group.children;
  setAttribute(group, "transform", `translate(${place.x} ${place.y})`);
  setText(name, node.name);
  setText(small, node.type === "milvus_sink" ? `${rate(node.out)} to Milvus` : node.type === "source" ? `${rate(node.into)} read` : node.type);
  const lines = endsOf(node);
  keyed(ends, lines, ([word]) => word, () => svg("text", {}), (text, entry) => {
    const index = lines.indexOf(entry);
    setText(text, `${entry[0]} ${rate(entry[1])}`);
    setAttribute(text, "x", across ? 0 : BOX.width / 2 + 12);
    setAttribute(text, "y", across ? BOX.height / 2 + 15 + index * END_HEIGHT : 4 + (index - (lines.length - 1) / 2) * 15);
    setAttribute(text, "text-anchor", across ? "middle" : "start");
  });
}

function showTable(nodes) {
  const make = () => html("tr", {}, html("th", { scope: "row" }), html("td"), html("td"), html("td", { class: "number" }), html("td", { class: "number" }), html("td"));
  keyed(find("#flow-table tbody"), nodes, (node) => node.name, make, (row, node) => {
    const ends = Object.entries(node.ends).map(([word, perSecond]) => `${word} ${rate(perSecond)}`);
    const texts = [node.name, node.type, node.parents.join(", "), rate(node.into), rate(node.out), ends.join(", ")];
    texts.forEach((text, index) => setText(row.children[index], text));
  });
}
