// The player of a file: its waveform, and below it what was computed along its time.

/* global WaveSurfer */

const player = document.querySelector("[data-player]");
const media = player.querySelector("[data-media]");
const rows = player.querySelector("[data-rows]");
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

function formatClock(s) {
  const minutes = Math.floor(s / 60);
  return `${minutes}:${(s - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

function tell(text) {
  if (message !== null) message.textContent = text; // a picture has no such place
}

async function load(address) {
  for (;;) {
    const response = await fetch(address);
    if (response.status === 202) {
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
      continue;
    }
    const found = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(found.error ?? response.statusText);
    return found;
  }
}

// --- the part of the time that is visible ---------------------------------------------------

const view = { start: 0, end: 1 };
const drawers = [];

function redraw() {
  for (const draw of drawers) draw();
}

function show(start, end) {
  view.start = start;
  view.end = Math.max(end, start + 1e-3);
  redraw();
}

// --- the waveform ------------------------------------------------------------------------------

let wave = null;

function makeWave(peaks) {
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

function addRow(track) {
  const row = document.createElement("div");
  row.className = "track";
  const head = document.createElement("div");
  head.className = "trackhead";
  const name = document.createElement("span");
  name.textContent = track.name + (track.is_cut ? " (the first 20,000)" : "");
  head.append(name);
  if (track.kind === "ticks") head.append(makeClicks(track));
  row.append(head);
  if (track.kind === "text") {
    row.append(listText(track));
  } else {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", describe(track));
    row.append(canvas);
    canvas.addEventListener("click", (event) => {
      const at = view.start + (event.offsetX / canvas.clientWidth) * (view.end - view.start);
      media.currentTime = at;
    });
    drawers.push(() => draw(canvas, track));
  }
  rows.append(row);
}

function describe(track) {
  const count = track.times_s.length;
  if (track.kind === "segments") {
    const labels = [...new Set(track.labels)].slice(0, 12).join(", ");
    return `${track.name}: ${count} segments: ${labels}`;
  }
  return `${track.name}: ${count} ${track.kind === "ticks" ? "ticks" : "values"}`;
}

function draw(canvas, track) {
  const scale = devicePixelRatio;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
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
  const known = track.values.filter((v) => v !== null);
  const low = known.reduce((a, b) => Math.min(a, b), Infinity);
  const high = known.reduce((a, b) => Math.max(a, b), -Infinity);
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
  pen.fillStyle = resolved["--soft"];
  pen.font = "11px system-ui, sans-serif";
  pen.fillText(formatNumber(high), 4, 11);
  pen.fillText(formatNumber(low), 4, height - 4);
}

const formatNumber = (v) => new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(v);

function listText(track) {
  const list = document.createElement("ol");
  list.className = "transcript";
  list.tabIndex = 0;
  track.times_s.forEach((start, n) => {
    const line = document.createElement("li");
    const jump = document.createElement("button");
    jump.type = "button";
    jump.className = "small";
    jump.textContent = formatClock(start);
    jump.addEventListener("click", () => {
      media.currentTime = start;
    });
    line.append(jump, ` ${track.labels[n]}`);
    list.append(line);
  });
  media.addEventListener("timeupdate", () => {
    const at = media.currentTime;
    [...list.children].forEach((line, n) => {
      line.classList.toggle("now", track.times_s[n] <= at && at < track.ends_s[n]);
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
  const place = () => {
    const at = media === null ? 0 : media.currentTime;
    let now = track.times_s.findLastIndex((t) => t <= at + 1e-3);
    if (now < 0) now = 0;
    layer.setAttribute("viewBox", "0 0 1 1");
    layer.setAttribute("preserveAspectRatio", "none");
    layer.replaceChildren(...(track.boxes[now] ?? []).map(drawBox));
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
  media?.addEventListener("timeupdate", place);
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
    clock.textContent = formatClock(media.currentTime);
  };
  button.addEventListener("click", () => (media.paused ? media.play() : media.pause()));
  for (const name of ["play", "pause", "timeupdate", "seeked"]) media.addEventListener(name, update);
  media.addEventListener("error", () => {
    tell("The browser cannot play this kind of file; hear one of its results.");
  });
  addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea")) return;
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

async function start() {
  resolveAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    resolveAll();
    wave?.setOptions({ waveColor: resolveColour("--wave"), progressColor: resolveColour("--accent") });
    redraw();
  });
  new ResizeObserver(redraw).observe(rows ?? player);
  const wanted = load(player.dataset.tracks).catch((error) => {
    tell(`What was computed cannot be shown: ${error.message}`);
    return { tracks: [], left_out: 0 };
  });
  if (media !== null) {
    connectTransport();
    connectPlayhead();
    connectStems();
    try {
      const peaks = await load(player.dataset.waveform);
      makeWave(peaks);
      addRow({
        name: "loudness (momentary, LUFS)",
        kind: "curve",
        times_s: peaks.momentary_lufs.map((_, n) => n * peaks.hop_s + 0.2),
        values: peaks.momentary_lufs,
        strong: [],
      });
    } catch (error) {
      tell(`There is no waveform: ${error.message}`);
      const showAll = () => show(0, Number.isFinite(media.duration) ? media.duration : 1);
      media.addEventListener("durationchange", showAll);
      showAll();
    }
  }
  const { tracks, left_out: leftOut } = await wanted;
  if (leftOut > 0) tell(`${leftOut} more curves and events are not drawn.`);
  for (const track of tracks) {
    if (track.kind === "boxes") connectBoxes(track);
    if (media !== null) addRow(track);
  }
  redraw();
  player.dataset.ready = "";
}

await start();
