// Puts the page together: what comes from the feed goes to each part.

import { find, setAttribute, setText } from "./dom.js";
import { follow } from "./feed.js";
import { showFlow } from "./flow.js";
import { showHeat } from "./heat.js";
import { showLinks } from "./links.js";
import { showLists } from "./lists.js";
import { showMap } from "./map.js";
import { showTasks } from "./tasks.js";
import { followTheme } from "./theme.js";
import { showVerdict } from "./verdict.js";

const FEED_WORDS = { opening: "opening", live: "live", lost: "no connection" };

let state = null;
let feed = "opening";

function show() {
  setText(find("#feed"), FEED_WORDS[feed]);
  setAttribute(find("#feed"), "data-state", feed);
  setAttribute(document.body, "data-feed", feed);
  if (!state) return;
  showVerdict(state, feed);
  showMap(state, switchLink);
  showLinks(state, switchLink);
  showHeat(state);
  showFlow(state);
  showTasks(state);
  showLists(state);
  const { mode, version, application, regions } = state.about;
  setText(find("#where"), mode === "demo" ? `demo of ${regions.length} regions` : `worker in ${regions[0]}`);
  setText(find("#about"), `Driftless ${version}, application ${application}`);
  find("#tasks-link").hidden = find("#metrics-link").hidden = mode === "demo";
}

async function switchLink(link) {
  const wish = link.up === false ? "heal" : "cut";
  const path = [link.from, link.to, wish].map(encodeURIComponent).join("/");
  let said;
  try {
    const answer = await fetch(`/console/links/${path}`, { method: "POST", headers: { "x-driftless-console": "1" } });
    said = await answer.text();
  } catch {
    said = "The demo does not answer.";
  }
  setText(find("#switched"), said.trim());
}

followTheme(find("#theme"), show);
follow(
  (news) => {
    state = news;
    feed = "live";
    show();
  },
  (word) => {
    if (feed === word) return;
    feed = word;
    show();
  },
);
let width = 0;
new ResizeObserver(([main]) => {
  if (main.contentRect.width === width) return;
  width = main.contentRect.width;
  show();
}).observe(find("#main"));
for (const part of ["#latency details", "#tasks details", "#flow-of select"]) {
  const element = find(part);
  element.addEventListener(element.tagName === "SELECT" ? "change" : "toggle", show);
}
