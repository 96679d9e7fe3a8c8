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

const AGAIN_MS = 5000; // until a console that has refused an answer is asked again

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
// another version of the graph is loaded again. A browser has few connections to one server, so a
// page that nobody sees keeps none.
export function follow(address, version, show) {
  const status = document.querySelector("[data-live]");
  let source = null;
  const tell = (text, isAway) => {
    if (status === null) return;
    status.hidden = false;
    if (status.textContent !== text) status.textContent = text;
    status.classList.toggle("away", isAway);
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const connect = () => {
    if (document.hidden || source !== null) return;
    const opened = new EventSource(address);
    source = opened;
    opened.addEventListener("open", () => tell("live", false));
    opened.addEventListener("error", () => {
      // The browser tries again by itself, unless it was refused, as by a console started anew.
      const isRefused = opened.readyState === EventSource.CLOSED;
      const text = "not connected; it is tried again";
      tell(isRefused ? "the console was started again: open the address that it prints" : text, true);
      if (!isRefused || opened !== source) return;
      close();
      setTimeout(connect, AGAIN_MS);
    });
    opened.addEventListener("problem", (event) => tell(`not counted: ${JSON.parse(event.data)}`, true));
    opened.addEventListener("counts", (event) => {
      const counts = JSON.parse(event.data);
      const at = new Date(1000 * counts.at);
      tell(counts.pause_s > SLOW_S ? `counted at ${at.toLocaleTimeString()}` : "live", false);
      show(counts);
    });
    opened.addEventListener("graph", (event) => {
      if (JSON.parse(event.data) === version) return;
      close();
      reload();
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", connect);
  connect();
}

localise(document);
fillBars(document);

// Why a part of a page could not be loaded; a part that is asked for again and again goes on.
function tellProblem(text) {
  const place = document.querySelector("[data-problem]");
  place.hidden = text === "";
  if (place.textContent !== text) place.textContent = text;
}

document.addEventListener("htmx:response:error", ({ detail }) => tellProblem(detail.ctx.text));
document.addEventListener("htmx:error", () => tellProblem("The console does not answer."));
document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (detail.ctx.response.status < 400) tellProblem("");
  localise(document);
  fillBars(document);
});
