// The counts of a job, and its throughput as far as the console has counted.

import { showCounts } from "./counts.js";
import { follow } from "./page.js";

/* global uPlot */

const place = document.querySelector("[data-throughput]");
const job = document.querySelector("[data-job]");
const REFRESH_MS = 3000;
const LEAST_S = 60; // of time that is shown
let plot = null;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

function build(data) {
  const style = getComputedStyle(document.body);
  const line = getComputedStyle(document.querySelector("a")).color;
  const axis = { stroke: style.color, grid: { stroke: "#8884", width: 1 }, ticks: { stroke: "#8884" } };
  return new uPlot(
    {
      width: place.clientWidth,
      height: 160,
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: { range: (_plot, low, high) => [Math.min(low, high - LEAST_S), high] },
        y: { range: (_plot, _low, high) => [0, Math.max(high, 1)] },
      },
      axes: [{ ...axis, space: 100, values: (_plot, at) => at.map((s) => clock.format(1000 * s)) }, { ...axis, size: 50 }],
      series: [{}, { stroke: line, width: 2, fill: "#6666e01a", points: { show: false } }],
    },
    data,
    place,
  );
}

async function read() {
  const response = await fetch(place.dataset.throughput);
  if (!response.ok) return;
  const { times, rates } = await response.json();
  if (plot === null) plot = build([times, rates]);
  else plot.setData([times, rates]);
}

async function refresh() {
  try {
    if (!document.hidden) await read();
  } catch (error) {
    console.info(error); // the console is away; it is asked again
  }
  setTimeout(refresh, REFRESH_MS);
}

follow(job.dataset.liveFrom, job.dataset.version, ({ jobs, rates }) => {
  const name = job.dataset.job;
  if (name in jobs) showCounts(job, jobs[name], rates[name] ?? 0);
});
await refresh();
addEventListener("resize", () => plot?.setSize({ width: place.clientWidth, height: 160 }));
