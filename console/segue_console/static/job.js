// The throughput of a job, as far as the console has counted.

/* global uPlot */

const place = document.querySelector("[data-throughput]");
const REFRESH_MS = 3000;
let plot = null;

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
      scales: { y: { range: (_plot, _low, high) => [0, Math.max(high, 1)] } },
      axes: [axis, { ...axis, size: 50 }],
      series: [{}, { stroke: line, width: 2, fill: "#6666e01a" }],
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

await refresh();
addEventListener("resize", () => plot?.setSize({ width: place.clientWidth, height: 160 }));
