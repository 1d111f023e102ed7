// Live updates. The server draws the page; whenever it tells that something happened, the page is fetched again and
// what has changed is put in its place. Without this script, or without the connection, a reload does the same.
"use strict";
(() => {
  const main = document.querySelector("[data-follow]");
  if (!main) return;
  const pause = Number(main.dataset.pause);
  // Verdicts also change because time goes by: "handed over" comes three minutes after the last event.
  const REGULARLY = 15000;
  // Where there are too many listeners, or a proxy holds events back.
  const WITHOUT_EVENTS = 5000;
  const status = document.getElementById("live");
  let source = null;
  let timer = 0;
  let due = 0;
  let fetching = false;

  const tell = (text) => { if (status.textContent !== text) status.textContent = text; };

  // In so many milliseconds, or sooner if that was wanted before.
  const refreshIn = (wait) => {
    const at = Date.now() + wait;
    if (timer && due <= at) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(refresh, wait);
  };

  async function refresh() {
    timer = 0;
    if (fetching) return refreshIn(pause);
    fetching = true;
    try {
      const address = new URL(location.href);
      address.hash = "";
      address.searchParams.set("live", "1");
      const answer = await fetch(address, { signal: AbortSignal.timeout(10000) });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const old of document.querySelectorAll("[data-live]")) {
          const fresh = page.getElementById(old.id);
          if (fresh) (old.dataset.live === "grow" ? grow : swap)(old, fresh);
        }
      }
    } catch {
      tell("The connection is gone; trying again.");
    }
    fetching = false;
    if (source) refreshIn(source.readyState === EventSource.CLOSED ? WITHOUT_EVENTS : REGULARLY);
  }

  // Takes what is new, and keeps the focus where it was.
  function swap(old, fresh) {
    if (old.innerHTML === fresh.innerHTML) return;
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    old.replaceChildren(...fresh.childNodes);
    if (focused) old.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }

  // Changes line by line, so that a screen reader reads only what is new.
  function grow(old, fresh) {
    const lines = [...fresh.children];
    while (old.children.length > lines.length) old.lastElementChild.remove();
    lines.forEach((line, at) => {
      const present = old.children[at];
      if (!present) old.append(line);
      else if (present.outerHTML !== line.outerHTML) present.replaceWith(line);
    });
  }

  function follow() {
    source = new EventSource(main.dataset.follow);
    source.onopen = () => { tell("Live."); refreshIn(0); };
    source.onmessage = () => refreshIn(pause);
    source.addEventListener("missed", () => refreshIn(pause));
    source.onerror = () => {
      const over = source.readyState === EventSource.CLOSED;
      tell(over ? "Updated every few seconds." : "The connection is gone; trying again.");
      if (over) refreshIn(WITHOUT_EVENTS);
    };
  }

  function leave() {
    source?.close();
    source = null;
    clearTimeout(timer);
    timer = 0;
  }

  // Browsers hold few connections to one server: a page that nobody sees keeps none.
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : source || follow()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", () => document.hidden || source || follow());
})();
