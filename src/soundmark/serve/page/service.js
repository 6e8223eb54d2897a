// The service, as the page calls it.

const BEHIND_SECONDS = 10; // that the service may lag before sound is left out

let key = "";
export const setKey = (value) => { key = value; };

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: key ? { Authorization: `Bearer ${key}` } : {} });
  } catch {
    throw new Refused(0, "away", "The service cannot be reached: is it still running?");
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.code || "", said.error || `The service answered ${answer.status}.`);
  return said;
}

export const models = async () => (await ask("/v1/models")).models;

export function events(file, model) {
  const form = new FormData();
  form.append("file", file);
  return ask(`/v1/events?${new URLSearchParams({ model })}`, { method: "POST", body: form });
}

// A stream: `tell` is called with every message; `over(words)` once, with words if something went wrong.
export function stream(model, sampleRate, tell, over) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/v1/stream`);
  let ended = false;
  const early = []; // frames from before the connection
  const end = (words) => {
    if (!ended) over(words);
    ended = true;
  };
  socket.addEventListener("open", () => {
    socket.send(JSON.stringify({ sample_rate: sampleRate, encoding: "s16le", model, ...(key ? { key } : {}) }));
    for (const frame of early.splice(0)) socket.send(frame);
  });
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "error") end(message.error);
    else tell(message);
  });
  socket.addEventListener("close", () => end(""));
  socket.addEventListener("error", () => end("The stream to the service has broken off."));
  return {
    // False where the service does not keep up, and the samples were let go.
    send(samples) {
      if (socket.readyState > WebSocket.OPEN) return true;
      if (socket.bufferedAmount > BEHIND_SECONDS * 2 * sampleRate || early.length > 10 * BEHIND_SECONDS) return false;
      const frame = new DataView(new ArrayBuffer(2 * samples.length));
      samples.forEach((value, i) => frame.setInt16(2 * i, Math.round(32767 * Math.max(-1, Math.min(1, value))), true));
      if (socket.readyState === WebSocket.CONNECTING) early.push(frame.buffer);
      else socket.send(frame.buffer);
      return true;
    },
    finish() {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
      else socket.close();
    },
  };
}
