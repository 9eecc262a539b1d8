// The state, and what is new each second: fetched once, then by server-sent events.

const COLUMNS_MAX = 600;
/** With no news for so long, what is shown is not believed any more. */
const STALE_MS = 4_000;

/** Calls `show(state)` with each new state, and `tell(word)` with how the feed itself is. */
export function follow(show, tell) {
  let state = null;
  let fetching = null;
  let newsAt = 0;

  async function fetchAll() {
    const answer = await fetch("/console/state", { cache: "no-store" });
    if (!answer.ok) throw new Error(`/console/state answers ${answer.status}`);
    state = await answer.json();
    newsAt = performance.now();
    show(state);
  }

  function refetch() {
    // One at a time: events go on meanwhile, and the next one finds out whether anything is missing still.
    fetching ??= fetchAll()
      .catch(() => tell("lost"))
      .finally(() => (fetching = null));
  }

  const events = new EventSource("/console/events");
  events.onopen = refetch;
  events.onerror = () => tell("lost");
  events.onmessage = (event) => {
    const news = JSON.parse(event.data);
    newsAt = performance.now();
    tell("live");
    if (!state || news.tick !== state.tick + 1) {
      if (!state || news.tick !== state.tick) refetch();
      return;
    }
    const columns = state.history.columns.concat(news.history.columns).slice(-COLUMNS_MAX);
    state = { ...news, history: { ...news.history, columns } };
    show(state);
  };
  setInterval(() => {
    if (performance.now() - newsAt > STALE_MS) tell("lost");
  }, 1_000);
}
