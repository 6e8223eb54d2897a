// The page: a file or the microphone in, what was heard out.

import { column, onScheme, spectrogram, tracks } from "./draw.js";
import * as service from "./service.js";
import * as show from "./shown.js";

const { $ } = show;
const TRACKS = 5; // sounds whose scores are drawn
const LIVE_SECONDS = 30; // of the microphone that are in view
const MOST_COLUMNS = 900;
const LISTED = 50; // events of the microphone

let known = [];
let view = null; // what is drawn: { columns, most, windows, labels, from, to }
let microphone = null;

const model = () => known.find(({ name }) => name === $("model").value) || known[0];

function draw() {
  if (!view || $("over-time").hidden) return;
  spectrogram($("spectrogram"), view.columns, view.most);
  tracks($("tracks"), view.windows, view.labels, view.from, view.to);
  show.legend(view.labels);
  show.axis(view.from, view.to);
}

// The labels that score highest anywhere.
function best(windows) {
  const most = new Map();
  for (const { scores } of windows) for (const [label, score] of scores) most.set(label, Math.max(score, most.get(label) || 0));
  return [...most].sort((a, b) => b[1] - a[1]).slice(0, TRACKS).map(([label]) => label);
}

const withScores = ({ start, end, labels }) => ({ start, end, scores: new Map(labels.map(({ label, score }) => [label, score])) });

function busy(is) {
  $("busy").hidden = !is;
  $("microphone").disabled = is;
  $("file").disabled = is;
}

function failed(problem) {
  if (problem.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
  show.error(problem.message);
}

// The picture of a file, drawn from what the browser can decode of it; the service decodes for itself.
async function picture(file) {
  try {
    const context = new OfflineAudioContext(1, 1, 32000);
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    const samples = sound.getChannelData(0);
    const count = Math.min(MOST_COLUMNS, Math.max(1, Math.ceil(samples.length / 512)));
    return Array.from({ length: count }, (_, i) => column(samples, Math.round(((i + 0.5) * samples.length) / count), sound.sampleRate));
  } catch {
    return []; // a format that this browser does not know
  }
}

async function hear(file) {
  if (microphone) await stop();
  show.error("");
  show.quiet();
  busy(true);
  show.say("Listening");
  try {
    const chosen = model();
    const said = await service.events(file, chosen.name);
    const { duration } = said.recording;
    const windows = said.windows.map(withScores);
    show.labels(said.labels);
    show.what(`${file.name}: ${duration.toFixed(1)} s, by the model ${said.model}`);
    show.events(said.events);
    show.alarm(said.alarm, chosen, strongest(said, chosen));
    $("over-time").hidden = false;
    const columns = await picture(file);
    view = { columns, most: columns.length, windows, labels: best(windows), from: 0, to: duration };
    draw();
    const [first] = said.labels;
    show.say(`Heard: ${show.plain(first.label)}, ${show.percent(first.score)}. ${said.events.length} events.`);
  } catch (problem) {
    failed(problem);
  } finally {
    busy(false);
    $("file").value = "";
  }
}

// The labels of the window in which the alarm is surest: they are what it is made of.
function strongest(said, chosen) {
  if (!chosen.alarm) return [];
  return said.windows.reduce((a, b) => (b.alarm > a.alarm ? b : a)).labels;
}

async function start() {
  show.error("");
  show.quiet();
  $("microphone").disabled = true;
  let source;
  let context;
  try {
    source = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    context = new AudioContext();
    await context.audioWorklet.addModule("/assets/worklet.js");
  } catch (problem) {
    if (source) source.getTracks().forEach((track) => track.stop());
    const why = problem.name === "NotAllowedError" ? "the browser was told not to let it" : problem.name === "NotFoundError" ? "there is none" : problem.message;
    show.error(`The microphone cannot be used: ${why}.`);
    $("microphone").disabled = false;
    return;
  }
  const chosen = model();
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  const live = { columns: [], windows: [], events: new Map(), time: 0, chosen, source, context, lost: false };
  microphone = live;
  live.stream = service.stream(chosen.name, context.sampleRate, (message) => told(live, message), (words) => ended(live, words));
  tap.port.onmessage = ({ data }) => taken(live, data);
  context.createMediaStreamSource(source).connect(tap);
  $("microphone").disabled = false;
  $("microphone").setAttribute("aria-pressed", "true");
  $("microphone").textContent = "Stop the microphone";
  $("over-time").hidden = false;
  $("now").hidden = false;
  show.labels([]);
  show.events([]);
  show.what(`Microphone, by the model ${chosen.name}. The first answer takes a few seconds.`);
  show.say("The microphone is on");
}

// A tenth of a second from the microphone.
function taken(live, samples) {
  if (microphone !== live) return;
  const rate = live.context.sampleRate;
  for (let part = 0; part < 2; part++) live.columns.push(column(samples, Math.round(((part + 0.5) * samples.length) / 2), rate));
  live.time += samples.length / rate;
  if (!live.stream.send(samples) && !live.lost) {
    live.lost = true;
    show.error("The service does not keep up: some sound was left out.");
  }
  const most = 20 * LIVE_SECONDS;
  live.columns.splice(0, Math.max(0, live.columns.length - most));
  const from = Math.max(0, live.time - LIVE_SECONDS);
  live.windows = live.windows.filter(({ end }) => end > from);
  view = { columns: live.columns, most, windows: live.windows, labels: best(live.windows), from, to: Math.max(from + LIVE_SECONDS, live.time) };
  soon();
}

// Live pictures, as often as the machine can: each drawing is followed by a rest several times as long.
let resting = false;
function soon() {
  if (resting || document.hidden) return;
  resting = true;
  const begun = performance.now();
  draw();
  setTimeout(() => { resting = false; }, Math.max(100, 5 * (performance.now() - begun)));
}

// A message of the service.
function told(live, message) {
  if (message.type === "window") {
    live.windows.push(withScores(message));
    show.labels(message.labels);
    show.what(`Microphone, ${message.end.toFixed(1)} s, by the model ${live.chosen.name}`);
    show.alarm(message.alarm, live.chosen, message.labels);
  } else if (message.type === "event") {
    if (message.change === "new" && !message.alarm) show.say(`${show.plain(message.label)} begins`);
    live.events.delete(message.number);
    live.events.set(message.number, { ...message, open: message.change !== "end" });
    const listed = [...live.events.values()].sort((a, b) => b.start - a.start);
    for (const old of listed.slice(LISTED)) live.events.delete(old.number);
    show.events(listed.slice(0, LISTED));
  }
}

function release(live) {
  live.source.getTracks().forEach((track) => track.stop());
  live.context.close();
  microphone = null;
  $("microphone").setAttribute("aria-pressed", "false");
  $("microphone").textContent = "Use the microphone";
}

function ended(live, words) {
  if (words) show.error(words);
  if (microphone === live) {
    release(live);
    if (!words) show.error("The service has ended the stream.");
  }
}

async function stop() {
  const live = microphone;
  live.stream.finish();
  release(live);
  show.say("The microphone is off");
}

async function load() {
  try {
    known = await service.models();
  } catch (problem) {
    failed(problem);
    return;
  }
  $("key-form").hidden = true;
  show.error("");
  $("model").replaceChildren(...known.map(({ name }) => show.element("option", name, { value: name })));
  show.about(model());
}

$("file").addEventListener("change", ({ target }) => target.files.length && hear(target.files[0]));
$("microphone").addEventListener("click", () => (microphone ? stop() : start()));
$("model").addEventListener("change", async () => {
  show.about(model());
  if (microphone) {
    await stop();
    start();
  }
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  service.setKey($("key").value);
  load();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) hear(event.dataTransfer.files[0]);
  });
}
window.addEventListener("resize", draw);
onScheme(draw);
load();
