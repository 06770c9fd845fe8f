// Which view is shown: the address after # says it. `#/?status=failed` lists, `#/episode/12` shows one record.

import { ask, complain, count, el, replace } from "./dom.js";
import { showEpisode } from "./episode.js";
import { showList } from "./list.js";

const main = document.getElementById("main");
const EVERY_MS = 3000;
let view = null; // {leave(), grown(summary)} of what is shown
let revision = -1;

function route() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const episode = /^\/episode\/(\d+)$/.exec(path);
  if (!episode && view?.take) return view.take(new URLSearchParams(query));
  view?.leave?.();
  complain(null);
  replace(main);
  view = episode ? showEpisode(main, Number(episode[1])) : showList(main, new URLSearchParams(query));
  window.scrollTo(0, 0);
  return undefined;
}

function showRun(run) {
  const who = [...run.agents, ...run.models].join(" · ");
  replace(
    document.getElementById("run-name"),
    el("bdi", { class: "run-title", title: run.folder }, run.name),
    el("bdi", { class: "quiet", title: who }, who),
  );
  const { planned, finished } = run.funnel;
  const live = document.getElementById("live");
  const age = run.changed_at === null ? Infinity : Date.now() / 1000 - run.changed_at;
  live.className = finished < planned && age < 600 ? "live growing" : "live";
  live.textContent = finished < planned ? `${count(finished)} of ${count(planned)} on record` : "complete";
}

let failed = false;

async function follow() {
  if (!document.hidden) {
    try {
      const run = await ask("/api/run");
      showRun(run);
      if (failed) complain(null);
      failed = false;
      if (revision >= 0 && run.revision !== revision) view?.grown?.(run);
      revision = run.revision;
    } catch (error) {
      failed = true;
      complain(error);
    }
  }
  setTimeout(follow, EVERY_MS);
}

window.addEventListener("hashchange", route);
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLElement && event.target.matches("input, select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  view?.key?.(event);
});
route();
follow();
