// How numbers and times are said.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => whole.format(number);

/** A span: 64 ms, 1.2 s, 34 s, 2 min 5 s, 3 h 10 min. */
export function span(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

export function rate(perSecond) {
  if (perSecond === 0) return "0/s";
  return perSecond < 9.95 ? `${perSecond.toFixed(1)}/s` : `${count(perSecond)}/s`;
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1_024 && unit < units.length - 1; unit += 1) number /= 1_024;
  return `${number < 10 && unit > 0 ? number.toFixed(1) : whole.format(number)} ${units[unit]}`;
}

const SPANS_MS = [60_000, 120_000, 300_000, 600_000];

/** How far back graphs reach: as far as there is something to show, in steps, so that they don't shrink each second. */
export function reach(state) {
  const { columns } = state.history;
  const age = columns.length > 0 ? state.now_ms - columns[0].at_ms : 0;
  return SPANS_MS.find((span) => age <= span * 1.02) ?? SPANS_MS[SPANS_MS.length - 1];
}

/** The reader's own time of day. */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

export const isOwn = (link) => link.from === link.to;

export const linkName = (link) => (isOwn(link) ? `${link.to}, own writes` : `${link.from} → ${link.to}`);

export const lagOf = (link) => (link.lag_ms ? link.lag_ms.acknowledged : null);

const ALARM_TIMES = 10;

/** ok, warning, alarm or unknown. */
export function levelOf(link, promised) {
  const lag = lagOf(link);
  if (link.up === false || link.gaps > 0) return "alarm";
  if (lag === null) return "unknown";
  if (lag > promised * ALARM_TIMES) return "alarm";
  return lag > promised || link.silent > 0 ? "warning" : "ok";
}

export function stateOf(link, promised) {
  if (link.up === false) return "cut";
  if (link.gaps > 0) return "incomplete";
  if (link.partitions === 0) return "no tasks";
  if (link.absent === link.partitions) return "no mirror";
  if (link.lag_ms === null) return "never heard of";
  if (link.silent === link.partitions) return "silent";
  return lagOf(link) > promised ? "behind" : "fine";
}

export const LEGS = { link: "link", merge: "merge", sink: "Milvus" };
