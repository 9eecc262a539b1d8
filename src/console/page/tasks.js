// The tasks: a square each, by region, and a table.

import { find, html, keyed, setAttribute, setText } from "./dom.js";
import { bytes, count, span } from "./words.js";

export function showTasks(state) {
  keyed(find("#task-squares"), state.regions, (region) => region.region, makeLine, (line, region) => {
    const tasks = state.tasks.filter((task) => task.region === region.region);
    setText(line.firstElementChild, region.region);
    setText(line.lastElementChild, `${region.running} of ${region.tasks} run${region.joined ? "" : "; not in its group"}`);
    keyed(line.children[1], tasks, (task) => task.task, () => html("span"), (square, task) => {
      setAttribute(square, "data-state", task.state);
      setAttribute(square, "data-level", levelOf(task, state.lag_ms_promised));
      setAttribute(square, "title", `${task.task}: ${wordOf(task)}`);
      setText(square, task.partition.toString());
    });
  });
  if (find("#tasks details").open) showTable(state);
}

function makeLine() {
  return html("div", { class: "line" }, html("b"), html("span", { class: "squares" }), html("span", { class: "small" }));
}

/** By the part of the lag that is the task's own: a silent link is no fault of the task that waits for it. */
function levelOf(task, promised) {
  if (task.state !== "running") return "notice";
  if (task.parked > 0 || task.work_ms > promised * 10) return "alarm";
  return task.work_ms > promised ? "warning" : "ok";
}

function wordOf(task) {
  if (!task.restore) return `${task.state}, lag ${task.lag_ms === null ? "–" : span(task.lag_ms)}`;
  const left = task.restore.eta_seconds === null ? "" : `, ${span(task.restore.eta_seconds * 1_000)} left`;
  return `restoring, ${task.restore.percent} % of ${count(task.restore.end_offset - task.restore.from_offset)}${left}`;
}

function showTable(state) {
  const make = () => {
    const numbers = Array.from({ length: 6 }, () => html("td", { class: "number" }));
    return html("tr", {}, html("td"), html("th", { scope: "row" }), html("td"), html("td", { class: "number" }), html("td"), ...numbers);
  };
  keyed(find("#task-table tbody"), state.tasks, (task) => `${task.region}/${task.task}`, make, (row, task) => {
    setAttribute(row, "data-level", levelOf(task, state.lag_ms_promised));
    const texts = [
      task.region,
      task.task,
      task.restore ? wordOf(task) : task.state,
      task.lag_ms === null ? "–" : span(task.lag_ms),
      task.lag_of ?? "",
      count(task.open_records),
      count(task.in_flight),
      count(task.parked),
      bytes(task.buffered_bytes),
      count(task.entries),
      bytes(task.store_bytes),
    ];
    texts.forEach((text, index) => setText(row.children[index], text));
  });
}
