// Live updates. The server renders the page. On each event the script fetches the page again and replaces the parts
// that changed. Without the script or the connection, a manual reload has the same effect.
"use strict";
(() => {
  const main = document.querySelector("[data-events]");
  if (!main) return;
  const debounce = Number(main.dataset.debounce);
  // Verdicts also change with time: "handed over" comes three minutes after the last event.
  const REFRESH_INTERVAL = 15000;
  // Polling interval without an event stream: too many subscribers, or a proxy that buffers events.
  const POLL_INTERVAL = 5000;
  const status = document.getElementById("live");
  let source = null;
  let timer = 0;
  let dueAt = 0;
  let fetching = false;

  const setStatus = (text) => { if (status.textContent !== text) status.textContent = text; };

  // Schedules a refresh. An earlier schedule wins.
  const scheduleRefresh = (wait) => {
    const at = Date.now() + wait;
    if (timer && dueAt <= at) return;
    clearTimeout(timer);
    dueAt = at;
    timer = setTimeout(refresh, wait);
  };

  async function refresh() {
    timer = 0;
    if (fetching) return scheduleRefresh(debounce);
    fetching = true;
    try {
      const address = new URL(location.href);
      address.hash = "";
      address.searchParams.set("live", "1");
      const response = await fetch(address, { signal: AbortSignal.timeout(10000) });
      if (response.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const old of document.querySelectorAll("[data-live]")) {
          const updated = page.getElementById(old.id);
          if (updated) (old.dataset.live === "lines" ? updateLines : swap)(old, updated);
        }
      }
    } catch {
      setStatus("Connection lost, retrying.");
    }
    fetching = false;
    if (source) scheduleRefresh(source.readyState === EventSource.CLOSED ? POLL_INTERVAL : REFRESH_INTERVAL);
  }

  // Replaces the content and keeps the focus.
  function swap(old, updated) {
    if (old.innerHTML === updated.innerHTML) return;
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const name = active && ["href", "formaction"].find((name) => active.hasAttribute(name));
    const focused = name && `[${name}="${CSS.escape(active.getAttribute(name))}"]`;
    old.replaceChildren(...updated.childNodes);
    if (focused) old.querySelector(focused)?.focus();
  }

  // Updates line by line, so a screen reader announces only new lines.
  function updateLines(old, updated) {
    const lines = [...updated.children];
    while (old.children.length > lines.length) old.lastElementChild.remove();
    lines.forEach((line, at) => {
      const current = old.children[at];
      if (!current) old.append(line);
      else if (current.outerHTML !== line.outerHTML) current.replaceWith(line);
    });
  }

  function subscribe() {
    source = new EventSource(main.dataset.events);
    source.onopen = () => { setStatus("Live."); scheduleRefresh(0); };
    source.onmessage = () => scheduleRefresh(debounce);
    source.addEventListener("missed", () => scheduleRefresh(debounce));
    source.onerror = () => {
      const isClosed = source.readyState === EventSource.CLOSED;
      setStatus(isClosed ? "Updated every few seconds." : "Connection lost, retrying.");
      if (isClosed) scheduleRefresh(POLL_INTERVAL);
    };
  }

  function unsubscribe() {
    source?.close();
    source = null;
    clearTimeout(timer);
    timer = 0;
  }

  // Browsers limit connections per server, so a hidden page closes its event stream.
  document.addEventListener("visibilitychange", () => (document.hidden ? unsubscribe() : source || subscribe()));
  addEventListener("pagehide", unsubscribe);
  addEventListener("pageshow", () => document.hidden || source || subscribe());
})();
