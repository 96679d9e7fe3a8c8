// The player of a file: its waveform, and below it what was computed along its time.

/* global WaveSurfer */

const player = document.querySelector("[data-player]");
const media = player.querySelector("[data-media]");
const rows = player.querySelector("[data-rows]");
const texts = player.querySelector("[data-texts]");
const message = player.querySelector("[data-message]");
const clock = player.querySelector("[data-clock]");
const WAIT_MS = 700; // between two looks for a waveform that is being computed
const CLICK_AHEAD_S = 0.15;
const CLICK_EVERY_MS = 40;
const COLOURS = 8;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function resolveColour(name) {
  // light-dark() is resolved only for an element.
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function formatClock(s, decimals = 1) {
  const tenths = Math.floor(s * 10 ** decimals + 1e-6) / 10 ** decimals;
  const minutes = Math.floor(tenths / 60);
  const rest = (tenths - 60 * minutes).toFixed(decimals).padStart(decimals ? decimals + 3 : 2, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

// What is to be said of the sound and of the waveform, each of which may change.
const said = {};
function tell(about, text) {
  said[about] = text;
  if (message !== null) message.textContent = Object.values(said).filter(Boolean).join(" "); // a picture has none
}

async function load(address, onWait = () => {}) {
  for (;;) {
    const response = await fetch(address);
    if (response.status === 202) {
      onWait();
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
      continue;
    }
    const found = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(found.error ?? response.statusText);
    return found;
  }
}

// --- the part of the time that is visible ---------------------------------------------------

const view = { start: 0, end: 1, duration: 0 };
const drawers = [];
const readers = []; // each shows a value at a time

function redraw() {
  for (const draw of drawers) draw();
}

// Shows all of it; the waveform knows best how long it is, then the player, then the results.
function setDuration(duration) {
  if (wave !== null || !Number.isFinite(duration) || duration <= view.duration) return;
  view.duration = duration;
  show(0, duration);
  clock.dispatchEvent(new Event("duration"));
}

function show(start, end) {
  view.start = start;
  view.end = Math.max(end, start + 1e-3);
  redraw();
}

// --- the waveform ------------------------------------------------------------------------------

let wave = null;

function makeWave(peaks) {
  view.duration = peaks.duration_s;
  clock.dispatchEvent(new Event("duration"));
  const interleaved = new Float32Array(2 * peaks.minima.length);
  peaks.minima.forEach((low, n) => {
    interleaved[2 * n] = low / 127;
    interleaved[2 * n + 1] = peaks.maxima[n] / 127;
  });
  wave = WaveSurfer.create({
    container: player.querySelector("[data-wave]"),
    media,
    peaks: [interleaved],
    duration: peaks.duration_s,
    height: 110,
    waveColor: resolveColour("--wave"),
    progressColor: resolveColour("--accent"),
    cursorColor: resolveColour("--text"),
    cursorWidth: 2,
    cspNonce: player.dataset.nonce,
    hideScrollbar: false,
    autoScroll: true,
    dragToSeek: true,
  });
  wave.on("scroll", (start, end) => show(start, end));
  const least = () => player.querySelector("[data-wave]").clientWidth / peaks.duration_s;
  player.querySelector("[data-zoom]").addEventListener("input", (event) => {
    const share = Number(event.target.value) / 100;
    const most = Math.max(400, 2 * least());
    wave.zoom(share === 0 ? 0 : least() * (most / least()) ** share);
    if (share === 0) show(0, peaks.duration_s);
  });
  show(0, peaks.duration_s);
}

// --- the tracks ---------------------------------------------------------------------------------

function addRow(track, isFirst = false) {
  const row = document.createElement("div");
  row.className = "track";
  const head = document.createElement("div");
  head.className = "trackhead";
  const name = document.createElement("span");
  name.textContent = track.name + (track.is_cut ? " (the first 20,000)" : "");
  head.append(name);
  if (track.kind === "ticks") head.append(makeClicks(track));
  if (track.kind === "curve") head.append(describeRange(track));
  if (track.kind === "segments") head.append(listLabels(track));
  row.append(head);
  if (track.kind === "text") {
    row.append(listText(track));
  } else {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", describe(track));
    row.append(canvas);
    canvas.addEventListener("click", (event) => {
      seekTo(canvas, event);
    });
    drawers.push(() => draw(canvas, track));
  }
  if (isFirst) rows.querySelector(".ruler").after(row);
  else (track.kind === "text" ? texts : rows).append(row);
}

function seekTo(canvas, event) {
  media.currentTime = view.start + (event.offsetX / canvas.clientWidth) * (view.end - view.start);
}

// What the colours of segments mean, as some are too short for their labels.
function listLabels(track) {
  const list = document.createElement("span");
  list.className = "labels";
  const labels = [...new Set(track.labels)].slice(0, COLOURS);
  list.append(
    ...labels.map((label, n) => {
      const item = document.createElement("span");
      const key = document.createElement("i");
      key.className = "key";
      key.style.background = `var(--kind${n})`;
      item.append(key, label);
      return item;
    }),
  );
  return list;
}

// The lowest and the highest value of a curve, and the one where it plays.
function describeRange(track) {
  const known = track.values.filter((v) => v !== null);
  track.low = known.reduce((a, b) => Math.min(a, b), Infinity);
  track.high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  const range = document.createElement("span");
  range.className = "range";
  const now = document.createElement("output");
  now.setAttribute("aria-live", "off");
  range.append(now, known.length === 0 ? "no values" : `${formatNumber(track.low)} to ${formatNumber(track.high)}`);
  readers.push((at) => {
    const n = track.times_s.findLastIndex((t) => t <= at);
    now.textContent = n < 0 || track.values[n] === null ? "" : formatNumber(track.values[n]);
  });
  return range;
}

const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

function addRuler() {
  const canvas = document.createElement("canvas");
  canvas.className = "ruler";
  canvas.setAttribute("aria-hidden", "true");
  canvas.addEventListener("click", (event) => seekTo(canvas, event));
  rows.prepend(canvas);
  drawers.push(() => {
    canvas.hidden = view.duration === 0;
    const { pen, width, height } = prepare(canvas);
    const shown = view.end - view.start;
    const step = STEPS_S.find((s) => (s / shown) * width >= 70) ?? shown;
    pen.fillStyle = resolved["--soft"];
    pen.font = "11px system-ui, sans-serif";
    for (let n = Math.ceil(view.start / step); n * step <= view.end; n += 1) {
      const x = ((n * step - view.start) / shown) * width;
      const label = formatClock(n * step, step < 1 ? 1 : 0);
      pen.fillRect(x, 0, 1, 5);
      if (x + pen.measureText(label).width < width) pen.fillText(label, x + 4, height - 5);
    }
  });
}

function describe(track) {
  const count = track.times_s.length;
  if (track.kind === "segments") {
    const labels = [...new Set(track.labels)].slice(0, 12).join(", ");
    return `${track.name}: ${count} segments: ${labels}`;
  }
  return `${track.name}: ${count} ${track.kind === "ticks" ? "ticks" : "values"}`;
}

function prepare(canvas) {
  const scale = devicePixelRatio;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return { pen, width, height };
}

function draw(canvas, track) {
  const { pen, width, height } = prepare(canvas);
  const toX = (s) => ((s - view.start) / (view.end - view.start)) * width;
  ({ ticks: drawTicks, segments: drawSegments, curve: drawCurve, boxes: drawTicks })[track.kind](
    pen, track, toX, width, height,
  );
}

function drawTicks(pen, track, toX, width, height) {
  track.times_s.forEach((at, n) => {
    const x = toX(at);
    if (x < 0 || x > width) return;
    const isStrong = track.strong[n];
    pen.fillStyle = resolved[isStrong ? "--text" : "--accent"];
    pen.fillRect(x - (isStrong ? 1 : 0.5), isStrong ? 0 : height * 0.3, isStrong ? 2 : 1.25, height);
  });
}

function drawSegments(pen, track, toX, width, height) {
  const labels = [...new Set(track.labels)];
  const numbers = new Map(labels.map((label, n) => [label, n]));
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const levels = labels.length > 1 && overlap(track) ? labels.length : 1;
  const step = height / levels;
  track.times_s.forEach((start, n) => {
    const [from, to] = [Math.max(toX(start), 0), Math.min(toX(track.ends_s[n]), width)];
    if (to < 0 || from > width) return;
    const number = numbers.get(track.labels[n]);
    const top = levels > 1 ? number * step : 0;
    pen.fillStyle = resolved[`--kind${number % COLOURS}`];
    pen.fillRect(from, top + 1, Math.max(to - from - 1, 1), step - 2);
    const label = track.labels[n];
    if (step >= 12 && pen.measureText(label).width < to - from - 8) {
      pen.fillStyle = resolved["--on-kind"];
      pen.fillText(label, from + 4, top + step / 2 + 1);
    }
  });
}

function overlap(track) {
  return track.times_s.some((start, n) => n > 0 && start < track.ends_s[n - 1] - 1e-6);
}

function drawCurve(pen, track, toX, width, height) {
  const { low, high } = track;
  const toY = (v) => height - 3 - ((v - low) / (high - low || 1)) * (height - 6);
  pen.strokeStyle = resolved["--accent"];
  pen.lineWidth = 1.5;
  pen.beginPath();
  let isDrawing = false;
  track.times_s.forEach((at, n) => {
    const value = track.values[n];
    const x = toX(at);
    if (value === null || x < -20 || x > width + 20) {
      isDrawing = false;
      return;
    }
    if (isDrawing) pen.lineTo(x, toY(value));
    else pen.moveTo(x, toY(value));
    isDrawing = true;
  });
  pen.stroke();
}

const formatNumber = (v) => new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(v);

function listText(track) {
  const list = document.createElement("ol");
  list.className = "transcript";
  track.times_s.forEach((start, n) => {
    const line = document.createElement("li");
    const jump = document.createElement("button");
    jump.type = "button";
    jump.className = "small";
    jump.tabIndex = n === 0 ? 0 : -1; // one stop for the Tab key; the arrow keys go on from there
    jump.textContent = formatClock(start);
    jump.addEventListener("click", () => {
      media.currentTime = start;
    });
    line.append(jump, ` ${track.labels[n]}`);
    list.append(line);
  });
  list.addEventListener("keydown", (event) => {
    const line = event.target.closest("li");
    const next = { ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling }[event.key];
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.querySelector("button").tabIndex = 0;
    next.querySelector("button").focus();
  });
  media.addEventListener("timeupdate", () => {
    const at = media.currentTime;
    [...list.children].forEach((line, n) => {
      const isNow = track.times_s[n] <= at && at < track.ends_s[n];
      if (isNow && !line.classList.contains("now") && !media.paused) {
        list.scrollTop = line.offsetTop - list.clientHeight / 2;
      }
      line.classList.toggle("now", isNow);
    });
  });
  return list;
}

// --- where it plays -------------------------------------------------------------------------------

function connectPlayhead() {
  const head = document.createElement("div");
  head.className = "playhead";
  head.hidden = true;
  rows.append(head);
  const place = () => {
    const share = (media.currentTime - view.start) / (view.end - view.start);
    head.hidden = share < 0 || share > 1 || rows.childElementCount < 2;
    head.style.left = `${100 * share}%`;
    for (const read of readers) read(media.currentTime);
  };
  const follow = () => {
    place();
    if (!media.paused) requestAnimationFrame(follow);
  };
  media.addEventListener("play", follow);
  media.addEventListener("seeked", place);
  drawers.push(place);
}

// --- clicks -------------------------------------------------------------------------------------

let sound = null;

function makeClicks(track) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  label.append(box, " hear as clicks");
  let timer = null;
  let next = 0;
  const find = (at) => {
    next = track.times_s.findIndex((t) => t >= at);
    if (next < 0) next = track.times_s.length;
  };
  const tick = () => {
    const now = media.currentTime;
    while (next < track.times_s.length && track.times_s[next] < now + CLICK_AHEAD_S) {
      const wait = (track.times_s[next] - now) / media.playbackRate;
      if (wait > -0.02) click(sound.currentTime + Math.max(wait, 0), track.strong[next] ?? false);
      next += 1;
    }
  };
  const update = () => {
    clearInterval(timer);
    if (!box.checked || media.paused) return;
    sound ??= new AudioContext();
    sound.resume();
    find(media.currentTime);
    timer = setInterval(tick, CLICK_EVERY_MS);
  };
  for (const name of ["play", "pause", "seeked"]) media.addEventListener(name, update);
  box.addEventListener("change", update);
  return label;
}

function click(at, isStrong) {
  const tone = new OscillatorNode(sound, { frequency: isStrong ? 1760 : 1175 });
  const level = new GainNode(sound, { gain: 0.5 });
  level.gain.setValueAtTime(0.5, at);
  level.gain.exponentialRampToValueAtTime(0.001, at + 0.04);
  tone.connect(level).connect(sound.destination);
  tone.start(at);
  tone.stop(at + 0.05);
  player.dataset.clicks = Number(player.dataset.clicks ?? 0) + 1;
}

// --- stems --------------------------------------------------------------------------------------

function connectStems() {
  const mix = player.querySelector("[data-mix]");
  if (mix === null) return;
  const stems = [...player.querySelectorAll(".stem")].filter((s) => s.querySelector("audio"));
  const isHeard = (stem) => {
    const solo = stems.filter((s) => s.querySelector("[data-solo]").ariaPressed === "true");
    return solo.length > 0 ? solo.includes(stem) : stem.querySelector("[data-stem]").checked;
  };
  const update = () => {
    const hasSolo = stems.some((s) => s.querySelector("[data-solo]").ariaPressed === "true");
    media.muted = hasSolo || !mix.checked;
    for (const stem of stems) {
      const audio = stem.querySelector("audio");
      audio.muted = !isHeard(stem);
      if (!isHeard(stem) || media.paused) {
        audio.pause();
        continue;
      }
      audio.playbackRate = media.playbackRate;
      if (Math.abs(audio.currentTime - media.currentTime) > 0.05) {
        audio.currentTime = media.currentTime;
      }
      if (audio.paused) audio.play();
    }
  };
  for (const name of ["play", "pause", "seeked", "ratechange", "timeupdate"]) {
    media.addEventListener(name, update);
  }
  player.addEventListener("change", update);
  for (const button of player.querySelectorAll("[data-solo]")) {
    button.addEventListener("click", () => {
      button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
      update();
    });
  }
}

// --- boxes --------------------------------------------------------------------------------------

function connectBoxes(track) {
  const layer = player.querySelector("[data-boxes]");
  if (layer === null) return;
  const labels = document.createElement("div");
  labels.className = "boxlabels";
  labels.setAttribute("aria-hidden", "true");
  layer.after(labels);
  const place = () => {
    const at = media === null ? 0 : media.currentTime;
    let now = track.times_s.findLastIndex((t) => t <= at + 1e-3);
    if (now < 0) now = 0;
    layer.setAttribute("viewBox", "0 0 1 1");
    layer.setAttribute("preserveAspectRatio", "none");
    layer.replaceChildren(...(track.boxes[now] ?? []).map(drawBox));
    labels.replaceChildren(...(track.boxes[now] ?? []).filter((b) => b.label).map(writeLabel));
  };
  const writeLabel = ({ label, corners }) => {
    const name = document.createElement("span");
    name.textContent = label;
    name.style.left = `${100 * Math.min(...corners.map(([x]) => x))}%`;
    name.style.top = `${100 * Math.min(...corners.map(([, y]) => y))}%`;
    return name;
  };
  const drawBox = ({ label, corners }) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    shape.setAttribute("points", corners.map((c) => c.join(",")).join(" "));
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = label;
    shape.append(title);
    return shape;
  };
  place();
  for (const name of ["timeupdate", "seeked"]) media?.addEventListener(name, place);
}

// --- all of it ----------------------------------------------------------------------------------

const names = ["--text", "--accent", "--soft", "--on-kind"];
for (let n = 0; n < COLOURS; n += 1) names.push(`--kind${n}`);
let resolved = {};
function resolveAll() {
  resolved = Object.fromEntries(names.map((name) => [name, resolveColour(name)]));
}

function connectTransport() {
  const button = player.querySelector("[data-play]");
  const update = () => {
    button.ariaLabel = media.paused ? "Play" : "Pause";
    button.classList.toggle("playing", !media.paused);
    const end = view.duration > 0 ? ` / ${formatClock(view.duration)}` : "";
    clock.textContent = `${formatClock(media.currentTime)}${end}`;
  };
  button.addEventListener("click", () => (media.paused ? media.play() : media.pause()));
  for (const name of ["play", "pause", "timeupdate", "seeked"]) media.addEventListener(name, update);
  clock.addEventListener("duration", update);
  media.addEventListener("loadedmetadata", () => setDuration(media.duration));
  media.addEventListener("error", () => playResult(button));
  if (media.error !== null) playResult(button);
  setDuration(media.duration);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea, audio, [tabindex='0']")) return;
    if (event.key === " " && !event.target.closest("button, summary, a")) {
      event.preventDefault();
      button.click();
    } else if (event.key === "ArrowLeft") {
      media.currentTime -= 5;
    } else if (event.key === "ArrowRight") {
      media.currentTime += 5;
    }
  });
}

// A file that the browser cannot play is replaced by the first of its results that is sound.
function playResult(button) {
  const stem = player.querySelector(".stem:has(audio)");
  if (stem === null || player.dataset.instead !== undefined) {
    button.disabled = true;
    tell("sound", "The browser cannot play this file.");
    return;
  }
  player.dataset.instead = stem.querySelector("label").textContent.trim();
  tell("sound", `The browser cannot play this kind of file. You hear the result ${player.dataset.instead} instead.`);
  media.src = stem.querySelector("audio").src;
}

async function start() {
  resolveAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    resolveAll();
    wave?.setOptions({ waveColor: resolveColour("--wave"), progressColor: resolveColour("--accent") });
    redraw();
  });
  new ResizeObserver(redraw).observe(rows ?? player);
  if (media !== null) {
    addRuler();
    connectTransport();
    connectPlayhead();
    connectStems();
  }
  await Promise.all([showTracks(), media === null ? null : showWaveform()]);
  redraw();
  player.dataset.ready = "";
}

async function showTracks() {
  let tracks = [];
  try {
    const found = await load(player.dataset.tracks);
    tracks = found.tracks;
    if (found.left_out > 0) tell("tracks", `${found.left_out} more curves and events are not drawn.`);
  } catch (error) {
    tell("tracks", `What was computed cannot be shown: ${error.message}`);
  }
  for (const track of tracks) {
    if (track.kind === "boxes") connectBoxes(track);
    if (media !== null) addRow(track);
  }
  if (media === null) return;
  const ends = tracks.map((t) => [t.times_s, t.ends_s].map((s) => s.at(-1) ?? 0)).flat();
  if (media.readyState === 0 && wave === null) setDuration(Math.max(0, ...ends));
  redraw();
}

async function showWaveform() {
  const place = player.querySelector("[data-wave]");
  try {
    const peaks = await load(player.dataset.waveform, () => tell("wave", "Computing the waveform…"));
    tell("wave", "");
    makeWave(peaks);
    addRow(
      {
        name: "loudness (momentary, LUFS)",
        kind: "curve",
        times_s: peaks.momentary_lufs.map((_, n) => n * peaks.hop_s + 0.2),
        values: peaks.momentary_lufs,
        strong: [],
      },
      true,
    );
  } catch (error) {
    place.hidden = player.querySelector(".zoom").hidden = true;
    tell("wave", `There is no waveform: ${error.message}.`);
  }
}

await start();
