"""The service under load, beside a minimal endpoint that calls the same graph, one request at a time.

    python benchmarks/serve.py RECORDING...

The minimal endpoint is what one writes first: FastAPI, the whole body, soundfile, soxr, ONNX Runtime as it comes, one
process. Both get the same recordings as raw bodies from the same client, in turns, and must say the same of them. The
client is on the same machine and takes its share of the cores, of both alike. Then: how soon refused load is told so,
and how many streams of 48 kHz are heard in real time.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from serving import Server, answer, load, request, serving, soundmark

import soundmark as package
from soundmark import audio
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.serve.settings import cores

RATE, FRAME = 48_000, 0.1  # Hz and seconds of a stream's messages


def bare(model: str | None) -> None:
    """Serve the minimal endpoint."""
    import onnxruntime
    import soundfile
    import soxr
    import uvicorn

    classifier = package.load(model)  # for labels, rate and shortest length; the graph is run without it
    content = Path(model).read_bytes() if model and Path(model).is_file() else None
    if content is None:
        from importlib import resources

        content = resources.files("soundmark").joinpath("models", "mark1.onnx").read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    shortest = round(classifier.policy.min_seconds * classifier.sample_rate)
    app = FastAPI()

    @app.post("/v1/classify")
    async def classify(request: Request) -> list[dict[str, Any]]:
        samples, rate = soundfile.read(io.BytesIO(await request.body()), dtype="float32", always_2d=True)
        waveform = soxr.resample(samples.mean(axis=1), rate, classifier.sample_rate)
        waveform = np.pad(waveform, (0, max(0, shortest - len(waveform))))
        scores = session.run(["probabilities"], {"audio": waveform[None]})[0][0]
        best = np.argsort(-scores)[:5]
        return [{"label": classifier.labels[i], "score": float(scores[i])} for i in best]

    @app.get("/readyz")
    async def ready() -> str:
        return "ok"

    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        print(f"bare at http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listening])


async def said(server: Server, content: bytes) -> Any:
    """The best label, and its score."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
    writer.write(request(content))
    status, body = await answer(reader)
    writer.close()
    if status != 200:
        sys.exit(f"{server.url} answers {status}: {body[:200]!r}")
    found = json.loads(body)
    best = (found["labels"] if isinstance(found, dict) else found)[0]
    return best["label"], best["score"]


def same(server: Server, other: Server, recordings: list[bytes]) -> None:
    """Leave unless both say the same of every recording."""
    for content in recordings:
        one, two = asyncio.run(said(server, content)), asyncio.run(said(other, content))
        if one[0] != two[0] or abs(one[1] - two[1]) > 0.01:
            sys.exit(f"one says {one} and the other {two}: they did not do the same; give recordings as long as clips")


def throughput(args: argparse.Namespace, recordings: list[bytes], options: list[str]) -> dict[str, Any]:
    requests = [request(content) for content in recordings]
    minimal = [sys.executable, __file__, "--bare", *(["--model", args.model] if args.model else [])]
    rows: dict[str, dict[str, list[Any]]] = {"soundmark": {}, "bare": {}}
    with serving(soundmark(*options)) as ours, serving(minimal) as theirs:
        same(ours, theirs, recordings)
        for _ in range(args.rounds):
            for clients in args.clients:
                for name, server in (("bare", theirs), ("soundmark", ours)):
                    asyncio.run(load(server, requests, clients, min(1.0, args.seconds)))  # warm
                    tally = asyncio.run(load(server, requests, clients, args.seconds))
                    rows[name].setdefault(str(clients), []).append(tally.report())
                    print(f"{name:9} {clients:3} clients: {rows[name][str(clients)][-1]}", flush=True)
    times = {
        clients: round(
            statistics.median(row["per_second"] for row in rows["soundmark"][clients])
            / statistics.median(row["per_second"] for row in rows["bare"][clients]), 2,
        )
        for clients in rows["bare"]
    }  # fmt: skip
    return {"load": rows, "times_the_bare_endpoint": times}


def refused(args: argparse.Namespace, recordings: list[bytes], options: list[str]) -> dict[str, Any]:
    """Far more clients than are let in."""
    with serving(soundmark(*options, "--max-requests", "8")) as server:
        tally = asyncio.run(load(server, [request(content) for content in recordings], 64, args.seconds))
    return {"clients": 64, "let_in": 8, "answered": tally.report(200), "refused": tally.report(503)}


async def one_stream(server: Server, samples: np.ndarray, delay: float, lags: list[float]) -> None:
    """Send a recording as fast as it sounds; note how late each window is told of."""
    from websockets.asyncio.client import connect

    await asyncio.sleep(delay)  # streams do not begin in step
    async with connect(f"ws://{server.host}:{server.port}/v1/stream", compression=None) as socket:
        await socket.send(json.dumps({"sample_rate": RATE}))
        assert json.loads(await socket.recv())["type"] == "ready"
        started, step = time.perf_counter(), round(RATE * FRAME)

        async def listen() -> None:
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "window":
                    lags.append(time.perf_counter() - started - message["end"])
                elif message["type"] in ("done", "error"):
                    assert message["type"] == "done", message
                    return

        listening = asyncio.create_task(listen())
        for number, begin in enumerate(range(0, len(samples), step), 1):
            await asyncio.sleep(max(0.0, started + number * FRAME - time.perf_counter()))
            await socket.send(samples[begin : begin + step].tobytes())
        await socket.send('{"type": "end"}')
        await listening


def streams(args: argparse.Namespace, recordings: list[bytes], options: list[str]) -> dict[str, Any]:
    """How many at once, until a window in a hundred is told of more than a hop late."""
    whole = np.concatenate([audio.read(content, RATE)[0] for content in recordings])
    whole = np.resize(whole, round(RATE * args.stream_seconds))
    samples = np.rint(32767 * np.clip(whole, -1, 1)).astype("<i2")
    rows: list[dict[str, Any]] = []
    for count in args.streams:
        with serving(soundmark(*options, "--max-streams", str(count))) as server:
            lags: list[float] = []

            async def together(server: Server = server, count: int = count, lags: list[float] = lags) -> None:
                await asyncio.gather(*(one_stream(server, samples, i / count, lags) for i in range(count)))

            asyncio.run(together())
        lags.sort()
        late = {f"p{p}": round(lags[min(len(lags) - 1, len(lags) * p // 100)], 3) for p in (50, 95, 99)}
        rows.append({"streams": count, "windows": len(lags), "seconds_late": late, "in_time": late["p99"] < 1.0})
        print(rows[-1], flush=True)
        if not rows[-1]["in_time"]:
            break
    most = max((row["streams"] for row in rows if row["in_time"]), default=0)
    return {"rate": RATE, "seconds": args.stream_seconds, "rows": rows, "most": most, "per_core": most / cores()}


def table(result: dict[str, Any]) -> dict[str, Any]:
    """The result as rows, for the documentation: medians over the rounds."""
    names = {"bare": "minimal endpoint", "soundmark": "Soundmark"}
    rows = []
    for clients in result["load"]["bare"]:
        for name, title in names.items():
            rounds = result["load"][name][clients]
            rate = statistics.median(each["per_second"] for each in rounds)
            late = [statistics.median(each["ms"][key] for each in rounds) for key in ("p50", "p95", "p99")]
            wrong = sum(each["lost"] + sum(each["others"].values()) for each in rounds)
            times = f"**{result['times_the_bare_endpoint'][clients]:.2f} times**" if name == "soundmark" else ""
            rows.append([title, clients, f"{rate:.0f}", times, *(f"{ms:.0f} ms" for ms in late), wrong])
    sound, flood, heard = result["recordings"], result["overload"], result["streams"]
    notes = [
        f"Whole recordings of {sound['seconds']:g} s in the body of a request ({'; '.join(sound['formats'])}), model "
        f"`{result['model']}`; {result['what']}.",
        f"Of {flood['clients']} clients where {flood['let_in']} are let in, the others are answered 503 after "
        f"{flood['refused']['ms']['p50']:.0f} ms (99 %: {flood['refused']['ms']['p99']:.0f} ms), while "
        f"{flood['answered']['per_second']:.0f} requests a second are served.",
    ]
    if heard:
        windows = {row["streams"]: row["seconds_late"]["p99"] for row in heard["rows"]}
        limit = "" if heard["rows"][-1]["in_time"] else "; more were too many"
        notes.append(
            f"Streams of {heard['rate'] / 1000:g} kHz heard in time at once: {heard['most']}, which is "
            f"{heard['per_core']:g} for each core{limit}. Windows were told of at most so late (99 %): "
            + ", ".join(f"{late:.2f} s of {count} streams" for count, late in windows.items())
            + "."
        )
    columns = ["server", "clients", "requests a second", "", "median", "95 %", "99 %", "errors"]
    return {"columns": columns, "rows": rows, "notes": notes}


def main() -> None:
    """Measure and write results/benchmarks/serve.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("recordings", nargs="*", help="of about the length of the model's clips")
    options.add_argument("--model", help="a model file (default: the package's)")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    options.add_argument("--seconds", type=float, default=15.0, help="of each load")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--streams", type=int, nargs="*", default=[20, 40, 60, 80])
    options.add_argument("--stream-seconds", type=float, default=30.0)
    options.add_argument("--out", default="results/benchmarks/serve.json")
    options.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.bare:
        bare(args.model)
        return
    if not args.recordings:
        options.error("give some recordings")
    recordings = [Path(name).read_bytes() for name in args.recordings]
    infos = [audio.info(content) for content in recordings]
    chosen = ["--model", args.model] if args.model else []
    result = {
        "title": "The service under load, beside a minimal endpoint",
        "command": "python benchmarks/serve.py RECORDING...",
        "what": "client and server on one machine, which share its cores; rounds in turns",
        "model": (args.model and Path(args.model).name) or "mark1",
        "recordings": {
            "count": len(infos),
            "seconds": round(statistics.median(each.duration for each in infos), 2),
            "formats": sorted({f"{each.format}, {each.sample_rate} Hz" for each in infos}),
        },
        "seconds": args.seconds,
        **throughput(args, recordings, chosen),
        "overload": refused(args, recordings, chosen),
        "streams": streams(args, recordings, chosen) if args.streams else None,
        "environment": environment(),
    }
    write_json(args.out, result | table(result))
    print(f"times the bare endpoint: {result['times_the_bare_endpoint']}")


if __name__ == "__main__":
    main()
