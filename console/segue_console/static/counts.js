// What the counts of a job look like: its bar, its states in words, and its share of the files.

const STATES = ["done", "not_applicable", "running", "queued", "failed", "blocked", "stale", "missing"];

function split(states) {
  const stale = Math.min(states.stale, states.missing);
  return { ...states, stale, missing: states.missing - stale };
}

function percent(part, whole) {
  if (whole === 0) return "-";
  if (part === 0 || part === whole) return `${Math.round((100 * part) / whole)} %`;
  return `${Math.min(Math.max((100 * part) / whole, 0.1), 99.9).toFixed(1)} %`;
}

// A number and its state stay on one line.
function describe(parts) {
  const told = STATES.filter((state) => parts[state]).map((state) =>
    `${parts[state].toLocaleString("en")} ${state}`.replaceAll(/[ _]/g, "\u00a0"),
  );
  return told.join(", ") || "no files";
}

function describeRate(rate) {
  if (rate <= 0) return "";
  return rate >= 0.1 ? ` · ${rate.toFixed(1)} per second` : ` · ${(60 * rate).toFixed(1)} per minute`;
}

// Shows the counts of one job in the elements below a root.
export function showCounts(root, states, files, rate) {
  const parts = split(states);
  for (const part of root.querySelectorAll("[data-part]")) {
    part.style.flexGrow = parts[part.dataset.part];
  }
  for (const link of root.querySelectorAll("[data-state]")) {
    const number = parts[link.dataset.state];
    link.hidden = number === 0;
    link.querySelector("[data-number]").textContent = number.toLocaleString("en");
  }
  const label = describe(parts);
  for (const text of root.querySelectorAll("[data-counts]")) text.textContent = label;
  root.querySelector("[data-stack]").setAttribute("aria-label", label);
  root.querySelector("[data-share]").textContent = percent(parts.done + parts.not_applicable, files);
  root.querySelector("[data-rate]").textContent = describeRate(rate);
}
