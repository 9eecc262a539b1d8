// What happened lately: conditions that have ended, what was done here, dead letters, conflicts.

import { find, html, keyed, setAttribute, setText } from "./dom.js";
import { clock, span } from "./words.js";

export function showLists(state) {
  showHappened(state);
  const { dead_letters: deadLetters, conflicts, missed } = state.recent;
  showKept(find("#dead-letters .list"), deadLetters, missed, "No dead letters.", (kept) => [
    kept.reason,
    `${kept.detail}${kept.detail ? " · " : ""}key ${kept.key || "none"}`,
    `${coordinates(kept)}, at ${kept.stage}`,
  ]);
  showKept(find("#conflicts .list"), conflicts, missed, "No conflicts.", (kept) => [
    `${kept.winner || "another region"} won`,
    `key ${kept.key || "none"}`,
    `lost: ${coordinates(kept)}`,
  ]);
}

const coordinates = (kept) => `${kept.topic}[${kept.partition}] offset ${kept.offset}`;

/** Every region judges for itself: one change that several have kept is one entry. */
function together(kept) {
  const groups = new Map();
  for (const one of kept) {
    const name = [one.key, one.reason, one.detail, one.winner].join("\n");
    const group = groups.get(name) ?? { ...one, regions: new Set() };
    group.regions.add(one.region);
    groups.set(name, group);
  }
  return [...groups.values()];
}

function showHappened(state) {
  const holding = state.conditions.map((it) => ({ at: it.since_ms, level: it.level, what: it.title, how: "it still holds" }));
  const ended = state.ended.map((it) => ({ at: it.since_ms, level: "ended", what: it.title, how: `for ${span(it.until_ms - it.since_ms)}, until ${clock(it.until_ms)}` }));
  const done = state.happened.map((it) => ({ at: it.at_ms, level: "done", what: it.what, how: "" }));
  const all = [...holding, ...ended, ...done].sort((a, b) => b.at - a.at);
  showEntries(find("#happened .list"), all, "Nothing yet.", (it) => [clock(it.at), it.what, it.how, "", it.level]);
}

function showKept(list, kept, missed, none, say) {
  const groups = together(kept);
  const entries = missed > 0 ? [...groups, null] : groups;
  showEntries(list, entries, none, (it) => {
    if (it === null) return ["", `${missed} more came too fast to be shown; the topics have them all.`, "", "", "notice"];
    const [what, how, where] = say(it);
    return [clock(it.at_ms), what, how, `in ${[...it.regions].sort().join(", ")}: ${where}`, ""];
  });
}

function showEntries(list, entries, none, say) {
  const shown = entries.length > 0 ? entries.map(say) : [["", none, "", "", "none"]];
  const make = () => html("li", {}, html("time"), html("strong"), html("span"), html("small"));
  keyed(list, shown, (texts) => texts.slice(0, 4).join("\n"), make, (item, texts) => {
    setAttribute(item, "data-level", texts[4] || null);
    texts.slice(0, 4).forEach((text, index) => setText(item.children[index], text));
  });
}
