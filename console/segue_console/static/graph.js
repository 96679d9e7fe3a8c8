// Draws the graph: the nodes are in the page as a list, and are put where dagre says.

import { keepTogether, showCounts } from "./counts.js";
import { follow } from "./page.js";

/* global dagre */

const NARROW = 640; // pixels, below which the nodes stay a list

const graph = document.querySelector("[data-graph]");
const nodes = [...graph.querySelectorAll("[data-node]")];
const edges = graph.querySelector(".edges");

function draw() {
  graph.classList.remove("drawn");
  edges.replaceChildren();
  const list = graph.querySelector(".nodes");
  list.style.width = list.style.height = "";
  for (const node of nodes) node.style.left = node.style.top = "";
  if (graph.clientWidth < NARROW) return;
  graph.classList.add("drawn");
  const layout = new dagre.graphlib.Graph();
  layout.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 56, marginx: 2, marginy: 2 });
  layout.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) {
    layout.setNode(node.dataset.node, { width: node.offsetWidth, height: node.offsetHeight });
  }
  for (const node of nodes) {
    for (const needed of (node.dataset.needs ?? "").split(" ").filter(Boolean)) {
      if (layout.hasNode(needed)) layout.setEdge(needed, node.dataset.node);
    }
  }
  dagre.layout(layout);
  for (const node of nodes) {
    const place = layout.node(node.dataset.node);
    node.style.left = `${place.x - place.width / 2}px`;
    node.style.top = `${place.y - place.height / 2}px`;
  }
  const { width, height } = layout.graph();
  list.style.width = `${width}px`;
  list.style.height = `${height}px`;
  edges.setAttribute("width", width);
  edges.setAttribute("height", height);
  for (const edge of layout.edges()) {
    const [from, to] = [layout.node(edge.v), layout.node(edge.w)];
    const points = [
      { x: from.x + from.width / 2, y: from.y },
      ...layout.edge(edge).points.slice(1, -1),
      { x: to.x - to.width / 2, y: to.y },
    ];
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", curve(points));
    edges.append(path);
  }
}

function curve(points) {
  const [first, ...rest] = points;
  let from = first;
  let d = `M${first.x},${first.y}`;
  for (const to of rest) {
    const middle = (from.x + to.x) / 2;
    d += `C${middle},${from.y} ${middle},${to.y} ${to.x},${to.y}`;
    from = to;
  }
  return d;
}

function show({ files, jobs, rates }) {
  document.querySelector("[data-files]").textContent = files.toLocaleString("en");
  for (const node of nodes) {
    const states = jobs[node.dataset.node];
    if (states !== undefined) showCounts(node, states, rates[node.dataset.node] ?? 0);
  }
}

for (const text of graph.querySelectorAll("[data-counts]")) {
  text.textContent = keepTogether(text.textContent);
}
draw();
let width = graph.clientWidth;
new ResizeObserver(() => {
  if (graph.clientWidth !== width) {
    width = graph.clientWidth;
    draw();
  }
}).observe(graph);
follow(graph.dataset.liveFrom, graph.dataset.version, show);
