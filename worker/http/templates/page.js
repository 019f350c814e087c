"use strict";
// Loads this page again and replaces the main part. Without the script the page shows the state at the load.
(() => {
  const PERIOD_MS = 10000, PATIENCE_MS = 8000;
  const seek = (selector, within = document) => within.querySelector(selector);
  if (!seek("main[data-live]")) return;
  const note = seek("#note"), stale = seek("#stale"), announce = seek("#announce");

  const writing = () => {
    return [...document.querySelectorAll("main form")].some((form) => form.contains(document.activeElement) ||
      [...form.elements].some((field) => field.type === "text" ? field.value !== "" : field.checked));
  };
  const selecting = () => !document.getSelection().isCollapsed;

  const show = (news) => {
    const before = seek("main"), after = seek("main", news);
    const focused = document.activeElement && document.activeElement.closest("main a");
    before.replaceWith(after);
    if (focused) {
      const same = [...after.querySelectorAll("a")].find((link) => link.href === focused.href);
      if (same) same.focus({preventScroll: true});
    }
    document.title = news.title;
    seek("link[rel=icon]").href = seek("link[rel=icon]", news).href;
    seek(".asof").replaceWith(seek(".asof", news));
    seek("#stale b").textContent = seek("#stale b", news).textContent;
    if (after.dataset.state !== before.dataset.state || after.dataset.day !== before.dataset.day) {
      announce.textContent = news.title;
    }
  };

  const refresh = async () => {
    if (document.hidden) return;
    if (writing()) { note.textContent = "Paused while you write."; return; }
    if (selecting()) { note.textContent = "Paused while text is selected."; return; }
    try {
      const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS)});
      const news = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!seek("main", news)) throw new Error("not a page of ours");
      if (writing() || selecting()) return;
      show(news);
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
    note.textContent = `Refreshes every ${PERIOD_MS / 1000} seconds.`;
  };

  note.textContent = `Refreshes every ${PERIOD_MS / 1000} seconds.`;
  setInterval(refresh, PERIOD_MS);
  document.addEventListener("visibilitychange", refresh);
})();
