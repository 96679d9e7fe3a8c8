// What the counts of a job look like: its bar, its states in words, and its share of the files.

function describeRate(rate) {
  if (rate <= 0) return "";
  return rate >= 0.1 ? ` · ${rate.toFixed(1)} per second` : ` · ${(60 * rate).toFixed(1)} per minute`;
}

// Shows the counts of one job, as the server tells them, in the elements below a root.
export function showCounts(root, { parts, label, share }, rate) {
  for (const part of root.querySelectorAll("[data-part]")) {
    part.style.flexGrow = parts[part.dataset.part];
  }
  for (const link of root.querySelectorAll("[data-state]")) {
    const number = parts[link.dataset.state];
    link.hidden = number === 0;
    link.querySelector("[data-number]").textContent = number.toLocaleString("en");
  }
  for (const text of root.querySelectorAll("[data-counts]")) text.textContent = label;
  root.querySelector("[data-stack]").setAttribute("aria-label", label);
  root.querySelector("[data-share]").textContent = share;
  root.querySelector("[data-rate]").textContent = describeRate(rate);
}
