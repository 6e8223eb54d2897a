{
  const data = JSON.parse(document.getElementById("data").textContent);
  const count = data.x.length;
  const $ = (name) => document.getElementById(name);
  const sky = $("sky"), pen = sky.getContext("2d"), said = $("said"), player = $("player"), bubble = $("bubble");
  const measured = data.right.some((right) => right !== null);
  const view = { scale: 1, x: 0, y: 0 };
  let kind = $("colour").value, only = -1, at = -1, width = 0, height = 0, waiting = 0;
  // Drawn in an order without pattern, the same each time, so that no class lies on top of all others.
  const order = Array.from({ length: count }, (_, i) => i).sort((a, b) => ((a * 7919) % 10007) - ((b * 7919) % 10007) || a - b);

  // --- Where a clip is on the screen ---
  const size = () => Math.min(width, height) - 56;
  const left = (i) => (width - size()) / 2 * view.scale + data.x[i] * size() * view.scale + view.x;
  const top = (i) => (height - size()) / 2 * view.scale + data.y[i] * size() * view.scale + view.y;
  const radius = () => Math.max(2.5, Math.min(6.5, 90 / Math.sqrt(count))) * Math.min(2.2, Math.sqrt(view.scale));
  const shown = (i) => only < 0 || data.colours[kind].of[i] === only;

  const draw = () => {
    waiting = 0;
    const colours = data.colours[kind], style = getComputedStyle(root);
    const paper = style.getPropertyValue("--paper"), ink = style.getPropertyValue("--ink");
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const mark = (i) => {
      const x = left(i), y = top(i), r = radius();
      if (x < -20 || y < -20 || x > width + 20 || y > height + 20) return;
      pen.globalAlpha = shown(i) ? 1 : 0.1;
      pen.fillStyle = pen.strokeStyle = colours.colours[colours.of[i]];
      pen.beginPath();
      if (data.right[i] === false) {
        pen.lineWidth = Math.max(2, r * 0.55);
        pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x + r, y - r); pen.lineTo(x - r, y + r);
        pen.stroke();
        return;
      }
      pen.arc(x, y, r, 0, 2 * Math.PI);
      if (measured && data.right[i] === null) {
        pen.lineWidth = 1.5;
        pen.stroke();
        return;
      }
      pen.fill();
      pen.lineWidth = 0.8;
      pen.strokeStyle = paper;
      pen.stroke();
    };
    for (const i of order) if (!shown(i)) mark(i);
    for (const i of order) if (shown(i)) mark(i);
    pen.globalAlpha = 1;
    if (at >= 0) {
      pen.lineWidth = 2.5;
      pen.strokeStyle = ink;
      pen.beginPath();
      pen.arc(left(at), top(at), radius() + 5, 0, 2 * Math.PI);
      pen.stroke();
    }
  };
  const redraw = () => { waiting ||= requestAnimationFrame(draw); };
  new ResizeObserver(() => {
    width = sky.clientWidth;
    height = sky.clientHeight;
    sky.width = Math.round(width * devicePixelRatio);
    sky.height = Math.round(height * devicePixelRatio);
    redraw();
  }).observe(sky);
  new MutationObserver(redraw).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // --- One clip ---
  const line = (list, name, words, wrong) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = words;
    if (wrong) dd.className = "wrong";
    list.append(dt, dd);
  };
  const play = () => {
    if (!player || at < 0 || !data.sound[at]) return;
    player.play().catch((error) => {
      if (error.name === "NotAllowedError") $("why")?.removeAttribute("hidden");  // browsers want a click or a key first
    });
  };
  const choose = (i, loud) => {
    if (i === at) { if (i >= 0) label(); return; }
    at = i;
    redraw();
    player?.pause();
    if (i < 0) { bubble.hidden = true; return; }
    const list = document.createElement("dl");
    line(list, "clip", data.clip[i]);
    line(list, "label", data.label[i]);
    if (data.predicted[i] !== null) line(list, "predicted", (data.right[i] ? "✓ " : "✕ ") + data.predicted[i], !data.right[i]);
    if (data.fold[i]) line(list, "fold", data.fold[i]);
    if (data.group[i]) line(list, "group", data.group[i]);
    said.replaceChildren(list);
    const why = document.createElement("p");
    why.className = "muted";
    why.id = "why";
    why.hidden = Boolean(data.sound[i]);
    why.textContent = data.sound[i] ? "Click once, and the browser lets clips sound." : "silent in this file";
    said.append(why);
    if (player) {
      if (data.sound[i]) player.src = data.sound[i]; else player.removeAttribute("src");
      if (loud) play();
    }
    label();
  };
  const label = () => {
    const wrong = data.right[at] === false ? `\n✕ taken for ${data.predicted[at]}` : "";
    bubble.textContent = `${data.label[at]}${wrong}\n${data.clip[at]}`;
    bubble.hidden = false;
    bubble.style.left = `${Math.max(4, Math.min(left(at) + 14, width - bubble.offsetWidth - 4))}px`;
    const below = top(at) + 16;
    bubble.style.top = `${below + bubble.offsetHeight < height ? below : Math.max(4, top(at) - bubble.offsetHeight - 14)}px`;
  };
  const nearest = (x, y, reach) => {
    let best = -1, least = reach * reach;
    for (let i = 0; i < count; i++) {
      if (!shown(i)) continue;
      const far = (left(i) - x) ** 2 + (top(i) - y) ** 2;
      if (far < least) { least = far; best = i; }
    }
    return best;
  };

  // --- Moving about ---
  const zoom = (factor, x = width / 2, y = height / 2) => {
    const scale = Math.min(200, Math.max(0.5, view.scale * factor));
    view.x = x - (x - view.x) * scale / view.scale;
    view.y = y - (y - view.y) * scale / view.scale;
    view.scale = scale;
    bubble.hidden = true;
    redraw();
  };
  const whole = () => { Object.assign(view, { scale: 1, x: 0, y: 0 }); bubble.hidden = true; redraw(); };
  sky.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
  }, { passive: false });
  $("closer").addEventListener("click", () => zoom(1.5));
  $("farther").addEventListener("click", () => zoom(1 / 1.5));
  $("whole").addEventListener("click", whole);

  const fingers = new Map();
  let moved = 0;
  sky.addEventListener("pointerdown", (event) => {
    sky.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = 0;
  });
  sky.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId), here = [event.offsetX, event.offsetY];
    if (!before) {
      const found = nearest(...here, 14);
      if (found < 0) bubble.hidden = true; else choose(found, $("hover")?.checked);
      return;
    }
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      zoom(apart(here) / apart(before), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    } else {
      view.x += here[0] - before[0];
      view.y += here[1] - before[1];
      bubble.hidden = true;
      redraw();
    }
    moved += Math.hypot(here[0] - before[0], here[1] - before[1]);
    fingers.set(event.pointerId, here);
  });
  for (const kindOf of ["pointerup", "pointercancel"]) {
    sky.addEventListener(kindOf, (event) => {
      fingers.delete(event.pointerId);
      if (moved > 5 || kindOf === "pointercancel") return;
      const found = nearest(event.offsetX, event.offsetY, 18);
      if (found >= 0) { at = -1; choose(found, false); play(); }
    });
  }
  sky.addEventListener("pointerleave", () => { bubble.hidden = true; });

  const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const walk = ([dx, dy]) => {
    const x = at < 0 ? width / 2 : left(at), y = at < 0 ? height / 2 : top(at);
    if (at < 0) return nearest(x, y, Infinity);
    let best = -1, least = Infinity;
    for (let i = 0; i < count; i++) {
      if (i === at || !shown(i)) continue;
      const ahead = (left(i) - x) * dx + (top(i) - y) * dy, aside = Math.abs((left(i) - x) * dy) + Math.abs((top(i) - y) * dx);
      // Within 45 degrees, and of clips on one spot the next in order: all can be reached.
      const cost = ahead > 0 && aside <= ahead ? ahead + 2 * aside : ahead === 0 && aside === 0 && i > at && dx + dy > 0 ? 0 : Infinity;
      if (cost < least) { least = cost; best = i; }
    }
    return best < 0 ? at : best;
  };
  sky.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in WAYS) {
      const next = walk(WAYS[event.key]), x = left(next), y = top(next);
      if (next >= 0 && (x < 30 || y < 30 || x > width - 30 || y > height - 30)) { view.x += width / 2 - x; view.y += height / 2 - y; }
      choose(next, $("hover")?.checked);
    } else if (event.key === "Enter" || event.key === " ") play();
    else if (event.key === "+" || event.key === "=") zoom(1.5, at < 0 ? undefined : left(at), at < 0 ? undefined : top(at));
    else if (event.key === "-") zoom(1 / 1.5, at < 0 ? undefined : left(at), at < 0 ? undefined : top(at));
    else if (event.key === "0") whole();
    else if (event.key === "Escape") { choose(-1); press(-1); }
    else return;
    event.preventDefault();
  });

  // --- What colours stand for ---
  const press = (value) => {
    only = only === value ? -1 : value;
    for (const button of $("legend").querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.value) === only));
    redraw();
  };
  const legend = () => {
    const { names, colours, of } = data.colours[kind], counts = names.map(() => 0);
    for (const value of of) counts[value]++;
    $("legend").replaceChildren(...names.map((name, value) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const dot = document.createElement("i"), words = document.createElement("span"), number = document.createElement("small");
      button.type = "button";
      button.value = value;
      button.setAttribute("aria-pressed", "false");
      if (kind === "error" && name === "wrong") button.className = "cross";
      dot.style.background = colours[value];
      words.textContent = name || "(none)";
      number.textContent = counts[value];
      button.append(dot, words, number);
      button.addEventListener("click", () => press(value));
      item.append(button);
      return item;
    }));
  };
  $("colour").addEventListener("change", (event) => { kind = event.target.value; only = -1; legend(); redraw(); });
  legend();
}
