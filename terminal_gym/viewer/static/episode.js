// One attempt: its terminal beside what the model said and typed, kept at the same step, and the verdict below.

import { ask, clock, complain, count, duration, el, plural, replace, short, status } from "./dom.js";
import { read } from "./recording.js";

const EVERY_MS = 150;
const ORDER = { failed: 0, error: 0, missing: 1, skipped: 2, passed: 3 };

export function showEpisode(main, number) {
  const gone = new AbortController();
  let steps = null;
  let screen = null;
  ask(`/api/episodes/${number}`, {}, gone.signal).then(show).catch(unless(gone));

  function show(episode) {
    steps = stepList(episode, (at) => screen?.seek(at));
    screen = episode.recorded ? player(episode, steps, gone) : stills(episode, steps);
    replace(main,
      heading(episode),
      el("div", { class: "episode" },
        el("div", { class: "watch" }, screen.element, verdict(episode), facts(episode)),
        steps.element));
    steps.mark(0);
  }

  return {
    leave: () => {
      gone.abort();
      screen?.leave?.();
    },
    key: (event) => {
      const by = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") location.hash = "#/";
      else if (by && steps && !event.target.closest(".ap-player")) {
        event.preventDefault();
        steps.go(by);
      } else if (event.key === " " && screen?.toggle && event.target.closest("button, a, summary, .ap-wrapper") === null) {
        event.preventDefault();
        screen.toggle();
      }
    },
  };
}

const unless = (gone) => (error) => {
  if (!gone.signal.aborted) complain(error);
};

// ── the terminal ────────────────────────────────────────────────────────────────────────────────

function player(episode, steps, gone) {
  const place = el("div", { class: "terminal", "aria-label": "Terminal recording" });
  const waits = el("input", { type: "checkbox", id: "waits", checked: true, onchange: build });
  const speed = el("select", { "aria-label": "Speed", onchange: build },
    [1, 2, 4, 8].map((n) => el("option", { value: n, selected: n === 2 }, `${n}×`)));
  const step = (by, label, sign) =>
    el("button", { type: "button", title: label, "aria-label": label, onclick: () => steps.go(by) }, sign);
  const element = el("section", { class: "panel stage-panel", "aria-label": "Terminal" },
    place,
    el("div", { class: "controls" }, step(-1, "Previous step (k)", "‹ Step"), step(1, "Next step (j)", "Step ›"),
      el("span", { class: "grow" }), el("label", { class: "check" }, waits, " skip waits"), speed));
  let [text, made, times, playing, timer] = ["", null, [], false, 0];
  fetch(`/api/episodes/${episode.n}/cast`, { signal: gone.signal })
    .then(async (answer) => {
      if (!answer.ok) throw new Error((await answer.json()).error);
      text = await answer.text();
      build();
    })
    .catch(unless(gone));

  function build() {
    const at = steps.current();
    clearInterval(timer);
    made?.dispose();
    const recording = read(text, { skipWaits: waits.checked });
    times = episode.steps.map((one) => recording.at(one.at_s ?? 0));
    place.replaceChildren();
    playing = false;
    // The data are handed over parsed: nothing of them is fetched, named or looked up by the player.
    made = globalThis.AsciinemaPlayer.create(
      { data: recording, parser: (given) => given },
      place,
      {
        fit: "width", theme: "tgym", preload: true, speed: Number(speed.value), controls: true,
        markers: times.map((time, k) => [time, `Step ${k + 1}`]), cursorMode: "steady",
        terminalFontFamily: "var(--mono)",
      },
    );
    for (const [name, now] of [["playing", true], ["play", true], ["pause", false], ["ended", false]]) {
      made.addEventListener(name, () => { playing = now; });
    }
    made.seek((times[Math.max(at, 0)] ?? 0) + 0.001); // shows the screen at once, which a poster does not do whole
    timer = setInterval(sync, EVERY_MS);
  }

  function sync() {
    if (!playing || !times.length) return;
    const now = made.getCurrentTime() + 0.02;
    let at = 0;
    while (at + 1 < times.length && times[at + 1] <= now) at += 1;
    steps.mark(at);
  }

  return {
    element,
    seek: (at) => made?.seek(times[at] + 0.001),
    toggle: () => (playing ? made?.pause() : made?.play()),
    leave: () => {
      clearInterval(timer);
      made?.dispose();
    },
  };
}

/** Without a recording: each step's screen as the agent saw it. */
function stills(episode, steps) {
  const screen = el("pre", { class: "still" });
  const show = (at) => { screen.textContent = episode.steps[at]?.screen ?? ""; };
  const element = el("section", { class: "panel stage-panel", "aria-label": "Terminal" }, screen,
    el("div", { class: "controls" }, el("span", { class: "quiet" }, "No recording: the screen after each step."),
      el("span", { class: "grow" }),
      el("button", { type: "button", onclick: () => steps.go(-1) }, "‹ Step"),
      el("button", { type: "button", onclick: () => steps.go(1) }, "Step ›")));
  show(0);
  return { element, seek: show };
}

// ── the steps ───────────────────────────────────────────────────────────────────────────────────

function stepList(episode, seek) {
  let at = -1;
  const list = el("ol", { class: "steps" });
  const items = episode.steps.map((step, k) => item(step, k));
  list.append(...items);
  const element = el("section", { class: "panel talk", "aria-label": "Steps" },
    el("details", { class: "instruction", open: true }, el("summary", {}, "Task"), el("p", { class: "text" }, episode.instruction || "–")),
    items.length ? list : el("p", { class: "none" }, "No step was taken."));

  function item(step, k) {
    const choose = () => { mark(k); seek(k); };
    const lead = step.turns.filter((turn) => turn.purpose !== "act" || step.turns.length > 1 || turn.reasoning || turn.messages.length);
    return el("li", { class: "step", id: `step-${k}` },
      el("div", { class: "step-head" },
        el("button", { type: "button", class: "step-name", "aria-label": `Show step ${k + 1} on the terminal`, onclick: choose }, `Step ${k + 1}`),
        el("span", { class: "quiet" }, clock(step.began_s ?? 0)),
        el("span", { class: "grow" }),
        step.exit_code ? el("span", { class: "tag bad" }, `exit ${step.exit_code}`) : null,
        step.submit ? el("span", { class: "tag" }, "submits") : null,
        el("span", { class: "quiet" }, duration(step.ended_s === null || step.began_s === null ? null : step.ended_s - step.began_s))),
      step.turns.map((turn) => turn.reasoning && folded("Reasoning", turn.reasoning)),
      said(step),
      typed(step),
      step.complaint ? el("p", { class: "complaint text" }, step.complaint) : null,
      folded("Printed", step.output),
      lead.length ? told(lead) : null);
  }

  function mark(next) {
    if (!items.length || next === at) return;
    items[at]?.removeAttribute("aria-current");
    at = next;
    items[at].setAttribute("aria-current", "step");
    const [box, one] = [list.getBoundingClientRect(), items[at].getBoundingClientRect()];
    if (list.scrollHeight > list.clientHeight + 1) list.scrollTop += one.top - box.top - 8;
  }

  function go(by) {
    const next = Math.min(Math.max(0, at + by), items.length - 1);
    if (items.length && next !== at) {
      mark(next);
      seek(next);
    }
  }

  return { element, mark, go, current: () => at };
}

function said(step) {
  const shown = structured(step.said);
  const calls = step.turns.flatMap((turn) => turn.tool_calls);
  return [
    shown ? [
      shown.analysis ? el("p", { class: "text said" }, shown.analysis) : null,
      shown.plan ? el("p", { class: "text said plan" }, shown.plan) : null,
      folded("Reply, verbatim", step.said),
    ] : step.said ? el("p", { class: "text said" }, step.said) : null,
    calls.map((call) => el("p", { class: "text said" }, el("code", {}, `${call.name} ${call.arguments}`))),
  ].flat();
}

/** Return the parts of a reply in Terminus' JSON, null for any other text. */
function structured(text) {
  try {
    const reply = JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
    const part = (value) => (typeof value === "string" ? value : "");
    return reply && (reply.analysis || reply.plan) ? { analysis: part(reply.analysis), plan: part(reply.plan) } : null;
  } catch {
    return null;
  }
}

function typed(step) {
  const keys = step.command === null ? step.keys.join("") : step.command;
  if (!keys) return null;
  return el("pre", { class: "keys", "aria-label": "Typed" }, keys.replace(/⏎\n$/, "⏎"));
}

function folded(name, text) {
  if (!text) return null;
  return el("details", { class: "fold" }, el("summary", {}, name, el("small", {}, plural(text.length, "character"))),
    el("pre", {}, text));
}

function told(turns) {
  const messages = turns.flatMap((turn) => turn.messages);
  if (!messages.length) return null;
  const tokens = turns.reduce((sum, turn) => sum + turn.prompt_tokens, 0);
  return el("details", { class: "fold" },
    el("summary", {}, "What the model was told", el("small", {}, tokens ? `${short(tokens)} tokens in all` : plural(messages.length, "message"))),
    messages.map((message) => [el("div", { class: "role" }, message.role), el("pre", {}, message.content)]).flat());
}

// ── the verdict ─────────────────────────────────────────────────────────────────────────────────

function heading(episode) {
  const others = episode.attempts.length > 1 && el("nav", { class: "siblings", "aria-label": "Attempts at this task" },
    episode.attempts.slice(0, 40).map((one) => el("a", {
      href: `#/episode/${one.n}`, class: `dot-link ${one.status}`, "aria-current": one.n === episode.n ? "page" : null,
      title: `Attempt ${one.attempt}: ${one.status}`, "aria-label": `Attempt ${one.attempt}, ${one.status}`,
    }, one.attempt)));
  return el("div", { class: "episode-head" },
    el("a", { class: "back", href: "#/", title: "All attempts (Escape)" }, "‹ All attempts"),
    el("h1", {}, el("bdi", { title: episode.task }, episode.task)),
    status(episode.status), others,
    el("p", { class: "quiet meta" }, [episode.agent, episode.model, episode.runtime, plural(episode.steps.length, "step"),
      duration(episode.seconds.total), episode.limit].filter(Boolean).flatMap((part, k) => [k ? " · " : null, el("bdi", {}, part)])));
}

function verdict(episode) {
  const checks = [...episode.checks].sort((a, b) => (ORDER[a.outcome] ?? 2) - (ORDER[b.outcome] ?? 2));
  const failing = checks.filter((check) => check.outcome !== "passed").length;
  const line = checks.length ? `${plural(checks.length, "check")}, ${failing ? `${failing} not passed` : "all passed"}` : "no checks";
  return el("section", { class: "panel verdict", "aria-label": "Verdict" },
    el("h2", {}, "Verdict ", status(episode.status),
      el("span", { class: "quiet" }, episode.reward === null ? "no reward" : `reward ${episode.reward}`),
      el("span", { class: "quiet" }, line)),
    episode.reason && episode.reason !== "checks" ? el("p", { class: "text reason" }, episode.reason) : null,
    episode.limit ? el("p", { class: "text reason" }, `Ended by ${episode.limit}.`) : null,
    episode.integrity.map((flag) => el("p", { class: "flag text" }, el("b", {}, "Integrity: "), flag)),
    checks.length ? el("ul", { class: "checks" }, checks.map((check) =>
      el("li", { class: check.outcome },
        el("span", { class: "outcome" }, check.outcome), el("bdi", { class: "check-id" }, check.id),
        check.outcome !== "passed" && check.detail ? el("pre", {}, check.detail) : null))) : null,
    episode.failures.length ? el("details", { class: "fold" },
      el("summary", {}, plural(episode.failures.length, "earlier try", ) + " broken"),
      episode.failures.map((text) => el("pre", {}, text))) : null);
}

function facts(episode) {
  const rows = [
    ["Image", episode.image_digest], ["Task", episode.task_hash], ["Seed", episode.seed], ["Began", episode.began_at],
    ["Prompt tokens", count(episode.tokens.prompt)], ["Sampled tokens", count(episode.tokens.completion)],
    ["Price", episode.cost_usd === null ? null : `$${episode.cost_usd.toFixed(4)}`],
    ...Object.entries(episode.seconds).map(([phase, seconds]) => [`Time: ${phase}`, duration(seconds)]),
    ...Object.entries(episode.versions),
  ].filter(([, value]) => value !== null && value !== "");
  return el("details", { class: "panel more" }, el("summary", {}, "Record"),
    el("dl", {}, rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, el("bdi", {}, value))])));
}
