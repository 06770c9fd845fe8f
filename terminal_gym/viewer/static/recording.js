// A recording for the player: what the terminal printed, with long waits cut if wanted, and where steps begin in it.

const LONGEST_WAIT_S = 1.5;
const FIRST_WAIT_S = 0.2; // before the first prompt, or of a machine that was started ahead
const MOST_CELLS = 1000;

/** Return {events (in milliseconds, as the player wants them), cols, rows, at(seconds)} of an asciicast v2 text. */
export function read(text, { skipWaits }) {
  const lines = text.split("\n").filter(Boolean);
  const head = JSON.parse(lines[0]);
  const events = [];
  const recorded = [];
  const played = [];
  let before = 0;
  let now = 0;
  for (const line of lines.slice(1)) {
    const [at, code, data] = JSON.parse(line);
    const wait = Math.max(0, at - before);
    now += skipWaits ? Math.min(wait, recorded.length ? LONGEST_WAIT_S : FIRST_WAIT_S) : wait;
    before = at;
    recorded.push(at);
    played.push(now);
    if (code === "o") events.push([1000 * now, "o", data]);
    else if (code === "r" && sensible(data)) events.push([1000 * now, "r", data]);
  }
  if (!events.length) events.push([0, "o", ""]);
  return { events, cols: cells(head.width), rows: cells(head.height), at, duration: now };

  /** Where in the played recording `seconds` of the recorded one are. */
  function at(seconds) {
    let [low, high] = [0, recorded.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (recorded[middle] <= seconds) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return Math.min(seconds, played[0] ?? 0);
    const beyond = seconds - recorded[low - 1];
    const next = played[low] ?? played[low - 1];
    return Math.min(played[low - 1] + beyond, next);
  }
}

const cells = (n) => Math.min(Math.max(1, Math.trunc(n) || 80), MOST_CELLS);

function sensible(size) {
  const [cols, rows] = String(size).split("x").map(Number);
  return cols > 0 && rows > 0 && cols <= MOST_CELLS && rows <= MOST_CELLS;
}
