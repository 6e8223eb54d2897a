"use strict";
const root = document.documentElement;
root.classList.add("js");

// Light and dark: the system's choice until the reader makes one.
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
try { if (["light", "dark"].includes(localStorage.soundmarkTheme)) root.dataset.theme = localStorage.soundmarkTheme; } catch {}
const toggle = document.getElementById("theme");
const relabel = () => { toggle.textContent = dark() ? "Light" : "Dark"; };
toggle.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try { localStorage.soundmarkTheme = root.dataset.theme; } catch {}
  relabel();
});
relabel();

// Words at the pointer, at once and on touch; without a script the browser shows the same titles itself.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll(".tip > title")) {
  title.parentNode.dataset.words = title.textContent;
  title.remove();
}
const point = (event) => {
  const target = event.target.closest?.(".tip");
  tip.hidden = !target;
  if (!target) return;
  tip.textContent = target.dataset.words;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, event.clientX + 14), innerWidth - box.width - 8);
  const below = event.clientY + 18 + box.height < innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? event.clientY + 18 : event.clientY - box.height - 12}px`;
};
for (const kind of ["pointermove", "pointerdown"]) document.addEventListener(kind, point);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// A spectrogram follows its sound: click to play from there.
for (const picture of document.querySelectorAll(".picture")) {
  const sound = picture.parentNode.querySelector("audio");
  const line = picture.querySelector("i");
  const follow = () => {
    line.style.display = sound.currentTime > 0 && !sound.ended ? "block" : "none";
    line.style.left = `${(100 * sound.currentTime) / (sound.duration || 1)}%`;
    if (!sound.paused) requestAnimationFrame(follow);
  };
  for (const kind of ["play", "seeked", "ended", "pause"]) sound.addEventListener(kind, follow);
  sound.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== sound) other.pause();
  });
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    if (sound.duration) sound.currentTime = (sound.duration * (event.clientX - box.left)) / box.width;
    sound.play();
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } catch {
      getSelection().selectAllChildren(text);
    }
  });
}

// What is folded away is printed too.
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
