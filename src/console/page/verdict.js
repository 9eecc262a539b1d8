// Is it fine? If not: which link, which stage, since when.

import { find, html, keyed, setAttribute, setText } from "./dom.js";
import { LEGS, clock, count, isOwn, lagOf, linkName, rate, span } from "./words.js";

const MARKS = { ok: "✓", notice: "…", warning: "!", alarm: "✕", unknown: "?" };

export function showVerdict(state, feed) {
  const level = feed === "lost" ? "unknown" : (state.conditions[0]?.level ?? "ok");
  setAttribute(find("#verdict"), "data-level", level);
  setText(find("#verdict .mark"), MARKS[level]);
  const title = titleOf(state, feed);
  setText(find("#verdict-title"), title);
  setText(find("#verdict-line"), lineOf(state, feed));
  setText(find("title"), `${MARKS[level]} ${title} · Driftless`);
  showConditions(state);
  showFacts(state);
}

function titleOf(state, feed) {
  if (feed === "lost") return "No news: this page shows the past";
  if (state.regions.length === 0) return "Looking …";
  const [worst, ...others] = state.conditions;
  if (!worst) return "All is well";
  return others.length === 0 ? worst.title : `${worst.title}, and ${others.length} more`;
}

function lineOf(state, feed) {
  if (feed === "lost") return `The process does not answer. What follows is from ${clock(state.now_ms)}.`;
  const tasks = state.regions.reduce((sum, region) => sum + region.tasks, 0);
  const running = state.regions.reduce((sum, region) => sum + region.running, 0);
  const heard = state.links.filter((link) => lagOf(link) !== null);
  const slowest = heard.reduce((worst, link) => (!worst || lagOf(link) > lagOf(worst) ? link : worst), null);
  const works = `${running} of ${tasks} tasks run.`;
  if (!slowest) return works;
  if (lagOf(slowest) === 0) return `Nothing waits anywhere. ${works}`;
  return `The slowest link, ${linkName(slowest)}, is at ${span(lagOf(slowest))}. ${works}`;
}

function showConditions(state) {
  const make = () =>
    html("li", {}, html("strong"), html("span", { class: "since" }), html("span", { class: "lag", "aria-hidden": "true" }), html("p"));
  keyed(find("#conditions"), state.conditions, (it) => `${it.kind}/${it.region}/${it.origin}/${it.title}`, make, (item, it) => {
    setAttribute(item, "data-level", it.level);
    const [title, since, lag, advice] = item.children;
    setText(title, it.title);
    setText(since, `since ${clock(it.since_ms)}`);
    setText(lag, numbersOf(it, state));
    setText(advice, it.advice);
  });
}

/** How long already, and where a link's lag is spent: what changes each second, and is not read aloud. */
function numbersOf(condition, state) {
  const held = `for ${span(Math.max(0, state.now_ms - condition.since_ms))}`;
  const link = state.links.find((link) => link.from === condition.origin && link.to === condition.region);
  if (condition.kind !== "behind" || !link?.leg) return held;
  const leg = isOwn(link) && link.leg === "link" ? "its Kafka" : LEGS[link.leg];
  return `${held}, now ${span(lagOf(link))}, most of it in: ${leg}`;
}

function showFacts(state) {
  const applied = state.regions.reduce((sum, region) => sum + region.applied_per_second, 0);
  const deadLetters = state.links.reduce((sum, link) => sum + link.dead_letters_per_second, 0);
  const conflicts = state.links.reduce((sum, link) => sum + link.conflicts_per_second, 0);
  const rows = state.regions.map((region) => `${region.region} ${count(region.rows ?? region.entries)}`);
  const known = state.regions.every((region) => region.rows !== null);
  const facts = [
    ["Applied", rate(applied)],
    ["Conflicts", rate(conflicts)],
    ["Dead letters", rate(deadLetters)],
    [known ? "Rows" : "Keys held", rows.join(" · ")],
  ];
  const make = () => html("div", {}, html("dt"), html("dd"));
  keyed(find("#facts"), facts, ([name]) => name, make, (item, [name, value]) => {
    setText(item.children[0], name);
    setText(item.children[1], value);
  });
}
