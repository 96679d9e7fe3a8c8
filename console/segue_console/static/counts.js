// Shows the counts of a job: its bar, its states in words, its share of the files, and its rate.

function describeRate(rate) {
  if (rate <= 0) return "";
  return rate >= 0.1 ? ` · ${rate.toFixed(1)} per second` : ` · ${(60 * rate).toFixed(1)} per minute`;
}

// Keeps each number and its state on one line.
export function keepTogether(label) {
  return label.replaceAll(" ", "\u00a0").replaceAll(",\u00a0", ", ");
}

// Shows the counts of one job in the elements below a root.
export function showCounts(root, { parts, label, share }, rate) {
  for (const part of root.querySelectorAll("[data-part]")) {
    part.style.flexGrow = parts[part.dataset.part];
  }
  for (const link of root.querySelectorAll("[data-state]")) {
    const number = parts[link.dataset.state];
    link.hidden = number === 0;
    link.querySelector("[data-number]").textContent = number.toLocaleString("en");
  }
  for (const text of root.querySelectorAll("[data-counts]")) text.textContent = keepTogether(label);
  root.querySelector("[data-stack]").setAttribute("aria-label", label);
  root.querySelector("[data-share]").textContent = share;
  root.querySelector("[data-rate]").textContent = describeRate(rate);
}
