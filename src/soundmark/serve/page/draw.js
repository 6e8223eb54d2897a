// The pictures: a spectrogram, and the top sounds over time. They are told apart by dashes as well as by colour.

const SIZE = 1024; // samples of one column's window
const ROWS = 128; // of the spectrogram, evenly spaced in octaves
const LOWEST = 50; // Hz
export const DASHES = [[], [8, 4], [2, 3], [12, 4, 2, 4], [5, 5]];
const LIGHT = ["#00695c", "#b3261e", "#1a4fa0", "#7a4a00", "#6a2c91"];
const DARK = ["#5fd0c0", "#ff9d94", "#8ab4f8", "#f1c26b", "#d6a8f5"];
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export const colours = () => (dark.matches ? DARK : LIGHT);
export const onScheme = (redraw) => dark.addEventListener("change", redraw);

const hann = Float64Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const real = new Float64Array(SIZE);
const imaginary = new Float64Array(SIZE);

// In-place FFT of real and imaginary, radix 2 (Cooley and Tukey, 1965).
function transform() {
  for (let i = 1, j = 0; i < SIZE; i++) {
    let bit = SIZE >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]];
  }
  for (let length = 2; length <= SIZE; length <<= 1) {
    const half = length >> 1;
    for (let k = 0; k < half; k++) {
      const angle = (-2 * Math.PI * k) / length;
      const c = Math.cos(angle);
      const s = Math.sin(angle);
      for (let i = k; i < SIZE; i += length) {
        const j = i + half;
        const re = real[j] * c - imaginary[j] * s;
        const im = real[j] * s + imaginary[j] * c;
        real[j] = real[i] - re;
        imaginary[j] = imaginary[i] - im;
        real[i] += re;
        imaginary[i] += im;
      }
    }
  }
}

// Levels from 0 (80 dB below full scale, or less) to 1, from low to high, of the samples around a place.
export function column(samples, place, rate) {
  imaginary.fill(0);
  for (let i = 0; i < SIZE; i++) real[i] = (samples[place - SIZE / 2 + i] || 0) * hann[i];
  transform();
  const levels = new Float32Array(ROWS);
  const highest = Math.min(rate / 2, 16000);
  for (let row = 0; row < ROWS; row++) {
    const low = LOWEST * (highest / LOWEST) ** (row / ROWS);
    const high = LOWEST * (highest / LOWEST) ** ((row + 1) / ROWS);
    const first = Math.floor((low * SIZE) / rate);
    const last = Math.max(first + 1, Math.ceil((high * SIZE) / rate));
    let most = 0;
    for (let k = first; k < last && k < SIZE / 2; k++) most = Math.max(most, real[k] ** 2 + imaginary[k] ** 2);
    levels[row] = Math.min(1, Math.max(0, 1 + (10 * Math.log10(most / (SIZE / 4) ** 2 + 1e-12)) / 80));
  }
  return levels;
}

// From black through green to white: lightness rises all the way, so that it reads without colour too.
const SHADES = Uint32Array.from({ length: 256 }, (_, i) => {
  const level = i / 255;
  const parts = [255 * level ** 1.8, 255 * level ** 0.95, 190 * level ** 1.4 + 20 * level, 255];
  return new Uint32Array(Uint8ClampedArray.from(parts).buffer)[0];
});

function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const height = Math.max(1, Math.round(canvas.clientHeight * scale));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return { context, width, height, scale };
}

// Columns from left to right, `most` of them across the whole width.
export function spectrogram(canvas, columns, most) {
  const { context, width, height } = fitted(canvas);
  const picture = document.createElement("canvas");
  Object.assign(picture, { width: Math.max(1, columns.length), height: ROWS });
  const inner = picture.getContext("2d");
  const image = inner.createImageData(picture.width, ROWS);
  const pixels = new Uint32Array(image.data.buffer);
  columns.forEach((levels, x) => {
    for (let row = 0; row < ROWS; row++) pixels[(ROWS - 1 - row) * picture.width + x] = SHADES[Math.round(255 * levels[row])];
  });
  inner.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  if (columns.length) context.drawImage(picture, 0, 0, (width * columns.length) / Math.max(most, columns.length), height);
}

// Scores of labels between two moments; windows are [{ start, end, scores: Map }].
export function tracks(canvas, windows, labels, from, to) {
  const { context, width, height, scale } = fitted(canvas);
  const x = (time) => ((time - from) / Math.max(to - from, 1e-9)) * width;
  const y = (score) => height - 4 * scale - score * (height - 8 * scale);
  const ink = getComputedStyle(canvas).getPropertyValue("--line");
  context.lineWidth = scale;
  context.strokeStyle = ink;
  for (const level of [0, 0.5, 1]) {
    context.beginPath();
    context.moveTo(0, y(level));
    context.lineTo(width, y(level));
    context.stroke();
  }
  labels.forEach((label, place) => {
    context.strokeStyle = colours()[place % colours().length];
    context.lineWidth = 2.5 * scale;
    context.setLineDash(DASHES[place % DASHES.length].map((part) => part * scale));
    context.beginPath();
    windows.forEach((each, i) => {
      const height = y(each.scores.get(label) || 0);
      // A window speaks for the time around its middle; the first from its start, the last to its end.
      if (!i) context.moveTo(x(each.start), height);
      context.lineTo(x((each.start + each.end) / 2), height);
      if (i === windows.length - 1) context.lineTo(x(each.end), height);
    });
    context.stroke();
  });
  context.setLineDash([]);
}
