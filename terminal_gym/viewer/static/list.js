// The run as a whole: sums, charts, and the table of attempts.

import { bandBars, intervalRail, outcomeBar, passAtK } from "./charts.js";
import { ask, complain, count, duration, el, percent, plural, replace, short, status } from "./dom.js";

const PAGE = 100;
const TASKS = 8;
const COLUMNS = [
  ["task", "Task"], ["attempt", "Attempt", "number"], ["agent", "Agent"], ["model", "Model"], ["status", "Status"],
  ["limit", "Limit"], ["steps", "Steps", "number"], ["seconds", "Time", "number"], ["tokens", "Tokens", "number"],
];
const EMPTY = { text: "", status: "", task: "", sort: "", descending: "", offset: "" };

export function showList(main, parameters) {
  let wanted = read(parameters);
  let tasksAt = 0;
  let tasksSort = "task";
  let loading = null;
  const sums = el("section", { class: "cards", "aria-label": "Sums" });
  const rates = el("div", { class: "task-rates" });
  const parts = table();
  replace(main, sums, parts.section);
  refresh();

  function table() {
    const search = el("input", {
      type: "search", id: "search", placeholder: "Search task, agent, model, reason   ( / )", "aria-label": "Search",
      autocomplete: "off", spellcheck: "false", oninput: later(() => change({ text: search.value })),
    });
    const chips = el("div", { class: "chips", role: "group", "aria-label": "Status" });
    const only = el("div", { class: "only" });
    const head = el("tr");
    const body = el("tbody");
    const foot = el("div", { class: "pager" });
    const found = el("span", { class: "quiet", role: "status" });
    const section = el("section", { class: "panel", "aria-label": "Attempts" },
      el("div", { class: "filters" }, search, chips, only, found),
      el("div", { class: "scroll" },
        el("table", { class: "attempts" }, el("thead", {}, head), body)),
      foot);
    return { section, search, chips, only, head, body, foot, found };
  }

  function change(part) {
    wanted = { ...wanted, offset: "", ...part };
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
    history.replaceState(null, "", query.size ? `#/?${query}` : "#/");
    load();
  }

  async function load() {
    loading?.abort();
    loading = new AbortController();
    try {
      const page = await ask("/api/attempts", { ...wanted, limit: PAGE }, loading.signal);
      complain(null);
      fill(page);
    } catch (error) {
      if (error.name !== "AbortError") complain(error);
    }
  }

  function fill(page) {
    if (document.activeElement !== parts.search) parts.search.value = wanted.text;
    const all = page.statuses.passed + page.statuses.failed + page.statuses.broken;
    const chip = (name, label, n) =>
      el("button", { type: "button", class: `chip ${name}`, "aria-pressed": wanted.status === name,
        onclick: () => change({ status: name }) }, label, el("span", { class: "n" }, count(n)));
    replace(parts.chips, chip("", "all", all),
      ["passed", "failed", "broken"].map((name) => chip(name, name, page.statuses[name])));
    replace(parts.only, wanted.task && el("button", { type: "button", class: "chip task", title: "Show all tasks",
      onclick: () => change({ task: "" }) }, el("bdi", {}, wanted.task), " ✕"));
    parts.found.textContent = plural(page.found, "attempt");
    replace(parts.head, COLUMNS.map(heading));
    replace(parts.body, page.rows.map(line));
    if (!page.rows.length) {
      const none = page.total ? "Nothing here matches." : "No attempt is on record yet. This page follows the run.";
      replace(parts.body, el("tr", {}, el("td", { class: "none", colspan: COLUMNS.length }, none)));
    }
    pager(page);
  }

  function heading([name, label, kind]) {
    const active = wanted.sort === name;
    const down = active && wanted.descending === "true";
    const next = active ? (down ? { sort: "", descending: "" } : { descending: "true" }) : { sort: name, descending: "" };
    return el("th", { scope: "col", class: kind, "aria-sort": active ? (down ? "descending" : "ascending") : "none" },
      el("button", { type: "button", onclick: () => change(next) }, label,
        el("span", { class: "arrow", "aria-hidden": "true" }, active ? (down ? "▼" : "▲") : "")));
  }

  function line(row) {
    const open = () => { location.hash = `#/episode/${row.n}`; };
    const cell = (value, kind) => el("td", { class: kind }, value);
    const text = (value) => (value ? el("bdi", { title: value }, value) : el("span", { class: "quiet" }, "–"));
    const tr = el("tr", { onclick: (event) => { if (!event.target.closest("a") && !getSelection().toString()) open(); } },
      cell(el("a", { href: `#/episode/${row.n}`, title: row.task }, el("bdi", {}, row.task)), "task"),
      cell(row.attempt, "number"), cell(text(row.agent)), cell(text(row.model), "model"), cell(status(row.status)),
      cell(text(row.limit || (row.status === "broken" ? row.reason : "")), "limit"), cell(count(row.steps), "number"),
      cell(duration(row.seconds), "number"), cell(short(row.tokens), "number"));
    return tr;
  }

  function pager(page) {
    const at = Number(wanted.offset || 0);
    const go = (offset) => () => { change({ offset: offset ? String(offset) : "" }); parts.section.scrollIntoView(); };
    const last = Math.max(0, Math.floor((page.found - 1) / PAGE) * PAGE);
    replace(parts.foot, page.found > PAGE && [
      el("button", { type: "button", disabled: at === 0, onclick: go(0) }, "« First"),
      el("button", { type: "button", disabled: at === 0, onclick: go(Math.max(0, at - PAGE)) }, "‹ Previous"),
      el("span", { class: "quiet" }, `${count(at + 1)}–${count(Math.min(at + PAGE, page.found))} of ${count(page.found)}`),
      el("button", { type: "button", disabled: at >= last, onclick: go(at + PAGE) }, "Next ›"),
      el("button", { type: "button", disabled: at >= last, onclick: go(last) }, "Last »"),
    ].flat());
  }

  async function refresh(known = null) {
    load();
    try {
      const run = known ?? (await ask("/api/run"));
      replace(sums, ...cards(run));
      loadTasks();
    } catch (error) {
      complain(error);
    }
  }

  function cards(run) {
    const { planned, finished, judged, passed, broken } = run.funnel;
    const step = (name, n) => el("div", { class: "stage" }, el("b", {}, count(n)), el("span", {}, name));
    const fact = (name, value) => el("div", { class: "fact" }, el("span", {}, name), el("b", {}, value));
    return [
      el("article", { class: "card rate" }, el("h2", {}, "Solve rate"),
        el("p", { class: "big" }, percent(run.solve_rate)),
        intervalRail(run.solve_rate, run.interval),
        el("p", { class: "quiet" }, run.interval
          ? `95 % interval ${percent(run.interval[0])} to ${percent(run.interval[1])}` : "Nothing judged yet."),
        el("div", { class: "funnel", "aria-label": "Funnel" },
          step("planned", planned), step("finished", finished), step("judged", judged), step("passed", passed)),
        broken ? el("p", { class: "apart" }, status("broken"), ` ${plural(broken, "attempt")} without a verdict, counted neither way`) : null),
      el("article", { class: "card" }, el("h2", {}, "pass@k"), passAtK(run.pass_at_k)),
      el("article", { class: "card" }, el("h2", {}, "How often tasks are solved"), bandBars(run.bands)),
      el("article", { class: "card tasks" },
        el("h2", {}, plural(run.tasks, "task"), sorter()), rates),
      el("article", { class: "card facts" }, el("h2", {}, "Cost"),
        fact("Steps", short(run.steps)), fact("Prompt tokens", short(run.tokens.prompt)),
        fact("Sampled tokens", short(run.tokens.completion)), fact("Time in episodes", duration(run.seconds)),
        fact("Ended by a limit", count(run.cut_short)),
        run.cost_usd ? fact("Price", `$${run.cost_usd.toFixed(2)}`) : null),
    ];
  }

  function sorter() {
    const option = (value, label) => el("option", { value, selected: tasksSort === value }, label);
    return el("select", { "aria-label": "Order of tasks", onchange: (event) => {
      tasksSort = event.target.value;
      tasksAt = 0;
      loadTasks();
    } }, option("task", "by name"), option("rate", "hardest first"), option("attempts", "most attempts"));
  }

  async function loadTasks() {
    try {
      const asked = { sort: tasksSort, descending: tasksSort === "attempts", offset: tasksAt, limit: TASKS };
      const page = await ask("/api/tasks", asked);
      const rows = page.rows.map((one) =>
        el("button", { type: "button", class: "bar-row", title: `${one.task}: show its attempts`,
          onclick: () => change({ task: one.task }) },
          el("bdi", { class: "bar-name" }, one.task), outcomeBar(one),
          el("span", { class: "bar-value" }, one.rate === null ? "–" : `${one.passed}/${one.passed + one.failed}`)));
      const more = page.found > TASKS && el("div", { class: "pager small" },
        el("button", { type: "button", "aria-label": "Earlier tasks", disabled: tasksAt === 0,
          onclick: () => { tasksAt -= TASKS; loadTasks(); } }, "‹"),
        el("span", { class: "quiet" }, `${count(tasksAt + 1)}–${count(Math.min(tasksAt + TASKS, page.found))} of ${count(page.found)}`),
        el("button", { type: "button", "aria-label": "Later tasks", disabled: tasksAt + TASKS >= page.found,
          onclick: () => { tasksAt += TASKS; loadTasks(); } }, "›"));
      replace(rates, ...rows, more);
    } catch (error) {
      complain(error);
    }
  }

  return {
    leave: () => loading?.abort(),
    grown: (run) => refresh(run),
    take: (next) => { wanted = read(next); load(); },
    key: (event) => {
      if (event.key === "/") {
        event.preventDefault();
        parts.search.focus();
      }
    },
  };
}

function read(parameters) {
  return Object.fromEntries(Object.entries(EMPTY).map(([name, none]) => [name, parameters.get(name) ?? none]));
}

/** Return `act`, put off until nothing was typed for a moment. */
function later(act, ms = 150) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };
}
