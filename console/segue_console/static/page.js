// What every page does: times in the reader's zone, bars, and live counts.

const SLOW_S = 60; // between two counts, from which their time is told
const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.valueOf())) {
      time.textContent = format.format(at);
      time.title = at.toISOString();
    }
  }
}

export function fillBars(root) {
  for (const part of root.querySelectorAll("[data-part]")) {
    part.style.flexGrow = part.dataset.n;
  }
}

// Loads the page again, once the console answers: it may be starting again, too.
async function reload() {
  for (;;) {
    try {
      if ((await fetch(location.href)).ok) break;
    } catch {
      // It is away.
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  location.reload();
}

// Calls a function with each new value of the counts, and shows whether they arrive; a page of
// another version of the graph is loaded again.
export function follow(address, version, show) {
  const status = document.querySelector("[data-live]");
  const source = new EventSource(address);
  const tell = (text, isAway) => {
    if (status === null) return;
    status.hidden = false;
    if (status.textContent !== text) status.textContent = text;
    status.classList.toggle("away", isAway);
  };
  source.addEventListener("open", () => tell("live", false));
  source.addEventListener("error", () => tell("not connected", true));
  source.addEventListener("counts", (event) => {
    const counts = JSON.parse(event.data);
    const at = new Date(1000 * counts.at);
    tell(counts.pause_s > SLOW_S ? `counted at ${at.toLocaleTimeString()}` : "live", false);
    show(counts);
  });
  source.addEventListener("graph", (event) => {
    if (JSON.parse(event.data) === version) return;
    source.close();
    reload();
  });
  addEventListener("pagehide", () => source.close());
}

localise(document);
fillBars(document);
document.addEventListener("htmx:after:swap", () => {
  localise(document);
  fillBars(document);
});
