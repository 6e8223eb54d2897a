// What was heard, put into the page in words; the pictures come from draw.js. Text only: nothing is ever parsed as HTML.

import { colours, DASHES } from "./draw.js";

export const $ = (id) => document.getElementById(id);
export const percent = (score) => `${(100 * score).toFixed(1)}\u00a0%`;
export const plain = (label) => label.replaceAll("_", " ");
const seconds = (time) => `${time.toFixed(1)}\u00a0s`;

export function element(name, text = "", properties = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  Object.assign(made, properties);
  return made;
}

export const say = (words) => { $("said").textContent = words; };

export function error(words) {
  $("error").hidden = !words;
  $("error").textContent = words || "";
  if (words) say(words);
}

export function labels(found) {
  $("now").hidden = false;
  $("labels").replaceChildren(...found.map(({ label, score }) => {
    const bar = element("meter", "", { min: 0, max: 1, value: score });
    bar.setAttribute("aria-hidden", "true");
    const row = element("li");
    const holder = element("span", "", { className: "bar" });
    holder.append(bar);
    row.append(element("span", plain(label), { className: "name" }), holder, element("span", percent(score), { className: "share" }));
    return row;
  }));
}

export function what(words) { $("what").textContent = words; }

let dismissed = false;
let shown = false;

export function quiet() {
  $("alarm").hidden = true;
  $("alarm-said").textContent = "";
  dismissed = shown = false;
}

// An alarm with what it is made of; spoken once, until it is over.
export function alarm(said, model, found) {
  if (!said || !said.on) {
    if (shown || dismissed) quiet();
    return;
  }
  const sounds = found.filter(({ label }) => model.alarm.sounds.includes(label)).map(({ label }) => plain(label));
  const title = said.label[0].toUpperCase() + said.label.slice(1);
  const words = `${sounds.slice(0, 3).join(", ") || "several sounds"}: ${percent(said.score)}, alarm from ${percent(said.threshold)} on`;
  $("alarm-title").textContent = title;
  $("alarm-text").textContent = words;
  if (dismissed) return;
  $("alarm").hidden = false;
  if (!shown) $("alarm-said").textContent = `${title}. ${words}`;
  shown = true;
}

$("alarm-close").addEventListener("click", () => {
  dismissed = true;
  shown = false;
  $("alarm").hidden = true;
  $("microphone").focus();
});

export function events(found) {
  $("happened").hidden = false;
  $("no-events").hidden = found.length > 0;
  $("events").replaceChildren(...found.map((event) => {
    const row = element("tr", "", { className: event.alarm ? "is-alarm" : "" });
    row.append(element("td", event.alarm ? `${plain(event.label)} (alarm)` : plain(event.label)));
    row.append(element("td", seconds(event.start)));
    row.append(element("td", event.open ? "goes on" : seconds(event.end)));
    row.append(element("td", percent(event.score)));
    return row;
  }));
}

let listed = "";

export function legend(found) {
  const now = [...found, ...colours()].join();
  if (now === listed) return;
  listed = now;
  const svg = "http://www.w3.org/2000/svg";
  $("legend").replaceChildren(...found.map((label, place) => {
    const picture = document.createElementNS(svg, "svg");
    picture.setAttribute("viewBox", "0 0 44 12");
    picture.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(svg, "line");
    const values = { x1: 0, x2: 44, y1: 6, y2: 6, stroke: colours()[place % colours().length], "stroke-width": 3, "stroke-dasharray": DASHES[place % DASHES.length].join(" ") };
    for (const [name, value] of Object.entries(values)) line.setAttribute(name, value);
    picture.append(line);
    const row = element("li");
    row.append(picture, plain(label));
    return row;
  }));
}

export function axis(from, to) {
  $("axis").replaceChildren(element("span", seconds(from)), element("span", seconds(to)));
}

export function about(model) {
  const score = model.headline;
  const share = score && score.value <= 1 ? `${percent(score.value)} (${String(score.metric).replaceAll("_", " ")})` : "not said";
  const range = score && score.low ? `, 95 % interval ${percent(score.low)} to ${percent(score.high)}` : "";
  $("about-text").textContent = model.about || "";
  const rows = {
    Name: model.name,
    Sounds: `${model.labels.length}: ${model.labels.map(plain).join(", ")}`,
    "Measured": share + range,
    Alarm: model.alarm ? `${model.alarm.label}, from ${percent(model.alarm.threshold)} on: ${model.alarm.sounds.map(plain).join(", ")}` : "none",
    Licence: model.licence || "not said",
  };
  $("facts").replaceChildren(...Object.entries(rows).flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
}
