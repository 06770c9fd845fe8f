// Charts as inline SVG. The numbers come ready from the server; here they only get coordinates.

import { count, el, percent, svg } from "./dom.js";

/** pass@k against k, as a line with its values. */
export function passAtK(points) {
  if (!points.length) return el("p", { class: "quiet" }, "Shown once every task has a judged attempt.");
  const [width, height, left, right, top, bottom] = [420, 190, 48, 28, 22, 30];
  const most = Math.max(...points.map(([k]) => k), 2);
  const x = (k) => left + ((Math.log2(k) / Math.log2(most)) * (width - left - right));
  const y = (value) => top + (1 - value) * (height - top - bottom);
  const lines = [0, 0.25, 0.5, 0.75, 1].map((value) => [
    svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
    svg("text", { class: "axis", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, `${100 * value} %`),
  ]);
  const path = points.map(([k, value], at) => `${at ? "L" : "M"}${x(k)} ${y(value)}`).join("");
  const every = Math.ceil(points.length / 7);
  const dots = points.map(([k, value], at) => [
    svg("circle", { class: "dot", cx: x(k), cy: y(value), r: 4 }, svg("title", {}, `pass@${k} ${percent(value)}`)),
    at % every ? null : svg("text", { class: "axis", x: x(k), y: height - 10, "text-anchor": "middle" }, `k=${k}`),
    at % every ? null : svg("text", { class: "value", x: x(k), y: y(value) - 9, "text-anchor": "middle" }, percent(value, 0)),
  ]);
  const words = points.map(([k, value]) => `pass@${k} ${percent(value)}`).join(", ");
  const area = `${path}L${x(points.at(-1)[0])} ${y(0)}L${x(points[0][0])} ${y(0)}Z`;
  return svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    lines, svg("path", { class: "area", d: area }), svg("path", { class: "curve", d: path }), dots,
  );
}

const BANDS = {
  never: "0 %", rarely: "below ⅓", sometimes: "⅓ to ⅔", often: "above ⅔", always: "100 %", unknown: "not judged",
};

/** How many tasks are solved how often. */
export function bandBars(bands) {
  const most = Math.max(1, ...Object.values(bands));
  const rows = Object.entries(BANDS)
    .filter(([name]) => name !== "unknown" || bands.unknown)
    .map(([name, means]) =>
      el("div", { class: "bar-row" },
        el("span", { class: "bar-name" }, name, el("small", {}, means)),
        svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: "rail", width: 100, height: 10 }),
          svg("rect", { class: `band ${name}`, width: (100 * (bands[name] ?? 0)) / most, height: 10 })),
        el("span", { class: "bar-value" }, count(bands[name])),
      ));
  return el("div", { class: "bars" }, rows);
}

/** Passed, failed and broken as one bar; the broken stand apart, behind a gap. */
export function outcomeBar({ passed, failed, broken }) {
  const all = Math.max(1, passed + failed + broken);
  const gap = broken && passed + failed ? 2 : 0;
  const unit = (100 - gap) / all;
  const label = `${passed} passed, ${failed} failed, ${broken} broken`;
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("rect", { class: "passed", width: passed * unit, height: 10 }),
    svg("rect", { class: "failed", x: passed * unit, width: failed * unit, height: 10 }),
    svg("rect", { class: "broken", x: (passed + failed) * unit + gap, width: broken * unit, height: 10 }),
  );
}

/** A rate with its 95 % interval on a rail from 0 to 1. */
export function intervalRail(rate, interval) {
  if (rate === null || !interval) return null;
  const [low, high] = interval.map((share) => 100 * share);
  return svg(
    "svg",
    { class: "interval", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "rail", y: 3, width: 100, height: 2 }),
    svg("rect", { class: "spread", x: low, y: 1.5, width: Math.max(0.6, high - low), height: 5 }),
    svg("rect", { class: "mark", x: Math.max(0, 100 * rate - 0.4), width: 0.8, height: 8 }),
  );
}
