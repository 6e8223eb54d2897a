// Samples of the microphone, in pieces of a tenth of a second, to the page.
class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Float32Array(Math.ceil(sampleRate / 10));
    this.count = 0;
  }

  process(inputs) {
    const channels = inputs[0];
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.held[this.count++] = sum / channels.length;
      if (this.count === this.held.length) {
        this.port.postMessage(this.held.slice());
        this.count = 0;
      }
    }
    return true;
  }
}
registerProcessor("tap", Tap);
