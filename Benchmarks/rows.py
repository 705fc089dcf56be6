#!/usr/bin/env python3
"""Holds Apus against its bars: one row per figure, beside Envoy's HBONE pair and raw TCP of the same run.

    rows.py full | quick | NAME...      NAME: bulk1 bulk4 down1 ping wrk16 conn16 start memory mesh workers
                                        capture enrolment scale

`full` takes five rounds of everything and `quick` is done within five minutes; names choose benchmarks, with the length
of `full` (--rounds changes that). Prints a table and leaves .build/bench/results.json. Needs root, like the harness in
datapath/, which does the measuring.
"""
import argparse, json, os, re, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "datapath"))
sys.path.insert(0, os.path.join(HERE, "capture"))
import bench, capture, cluster, scale  # noqa: E402

HARNESS = ["bulk1", "bulk4", "down1", "ping", "wrk16", "conn16"]
OWN = ["start", "memory", "mesh", "workers", "capture", "enrolment", "scale"]
APUS, ENVOY, RAW = "apus", "envoy-hbone-1", "raw"

# name, unit, the benchmark it comes from, the harness's figure, how it compares, the bar. A bar "x" is a ratio to Envoy.
ROWS = [
    ("bulk1: CPU of the pair", "s/GB", "bulk1", "bulk1 proxy CPU s/GB", "<=", 0.6, "x"),
    ("bulk4: throughput", "Gbit/s", "bulk4", "bulk4 Gbit/s", ">=", 1.5, "x"),
    ("down1: throughput", "Gbit/s", "down1", "down1 Gbit/s", ">=", 1.35, "x"),
    ("ping: p50", "us", "ping", "ping p50 us", "<=", 0.65, "x"),
    ("ping: p90", "us", "ping", "ping p90 us", "<=", 0.75, "x"),
    ("wrk16: rate", "requests/s", "wrk16", "wrk16 req/s", ">=", 1.5, "x"),
    ("wrk16: CPU of the pair", "s/100k requests", "wrk16", "wrk16 proxy CPU s/100k req", "<=", 0.6, "x"),
    ("conn16: rate", "connections/s", "conn16", "conn16 conn/s", ">=", 2, "x"),
    ("conn16: CPU of the pair", "s/100k connections", "conn16", "conn16 proxy CPU s/100k conn", "<=", 0.5, "x"),
    ("idle: private dirty memory of one proxy", "MiB", "memory", "dirty", "<=", 8, ""),
    ("idle: growth per connection and side, at 10,000", "KiB", "memory", "growth", "<=", 3, ""),
    ("start to first echo", "ms", "start", "start: first echo ms", "<=", 0.3, "x"),
    ("xDS: 100,000 workloads and 10,000 services taken in", "s", "mesh", "ingest", "<=", 1, ""),
    ("xDS: memory of each of 100,000 workloads", "KiB", "mesh", "each", "<=", 1.5, ""),
    ("longest stall of a worker, changes among 100,000 workloads", "ms", "mesh", "stall", "<=", 1, ""),
    ("2 workers against 1, bulk4: CPU s/GB", "ratio", "workers", "ratio", "<=", 1.1, ""),
    ("controller of 100,000 pods, 10,000 services: memory", "MiB", "scale", "controller memory", "<=", 600, ""),
    ("from those objects to all of it at a first ztunnel", "s", "scale", "first push", "<=", 10, ""),
    ("CPU of the controller for a pod's change, alone", "ms", "scale", "change cpu", "<=", 2, ""),
    ("CPU of the controller for a service's change, alone", "ms", "scale", "service cpu", "<=", 300, ""),
    ("1,000 changes a second at 100 ztunnels: p99", "ms", "scale", "change p99", "<=", 100, ""),
    ("CPU of the controller for each of them", "ms", "scale", "busy cpu", "<=", 1, ""),
    ("5,000 ztunnels connect and have 2,200 resources", "s", "scale", "many seconds", "<=", 120, ""),
    ("memory of the controller for each of 5,000 ztunnels", "KiB", "scale", "many each", "<=", 250, ""),
    ("a change at 5,000 ztunnels: p99", "ms", "scale", "many p99", "<=", 2000, ""),
]


# What capture costs, by the means of each column: name, unit, figure.
CAPTURE = [("a connection: CPU", "us", "us/conn"), ("connections one after the other, 16 at once", "connections/s", "conn/s"),
           ("bulk: CPU", "s/GB", "s/GB"), ("bulk, one connection", "Gbit/s", "Gbit/s")]
# name, unit, figure and bar of enrolment/run.
ENROLMENT = [("enrolment of one running pod, in the agent", "ms", "enrolment_median_ms"), ("ADD of apus-cni, beside bridge's", "ms", "add_extra_ms"),
             ("300 pods enrolled by one label", "s", "label_s"), ("memory of an enrolled pod, agent and keeper", "KiB", "memory_kib_per_pod")]


# ---- the harness -------------------------------------------------------------------------------------------------
def harness(paths, only, rounds, scale, patience):
    """Runs the harness as it is. {path: [{figure: value} per round]} and the machine it ran on."""
    with tempfile.TemporaryDirectory(prefix="apus-rows-") as out:
        # A name that no work has leaves only what every start measures.
        subprocess.run([sys.executable, os.path.join(HERE, "datapath", "bench.py"), "--paths", ",".join(paths), "--rounds", str(rounds),
                        "--scale", str(scale), "--only", ",".join(only) or "nothing", "--patience", str(patience), "--out", out], check=True)
        doc = json.load(open(os.path.join(out, "results.json")))
    return {p: [bench.figures(r) for r in doc["raw_rounds"][p]] for p in paths}, doc["machine"]


def attempt(figures, path, measure):
    """One round. A round that fails is told of and left out: the others still say something."""
    try: figures.setdefault(path, []).append(measure())
    except (RuntimeError, SystemExit, OSError, StopIteration) as e: print(f"   ! {path}: {e}", flush=True)


# ---- rows --------------------------------------------------------------------------------------------------------
def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def row(spec, rounds):
    """One line of the result. Ratios are taken within each round, so that a slow minute slows both sides of them."""
    name, unit, _, figure, relation, bar, kind = spec
    values = {p: [r.get(figure) for r in rounds.get(p, [])] for p in (APUS, ENVOY, RAW)}
    if kind:
        ratios = [a / e for a, e in zip(values[APUS], values[ENVOY]) if a is not None and e]
        compared, text = median(ratios), f"{relation} {bar} x envoy"
    else:
        compared, text = median(values[APUS]), f"{relation} {bar}"
    held = None if compared is None else compared <= bar if relation == "<=" else compared >= bar
    short = {p: None if (m := median(v)) is None else float(f"{m:.4g}") for p, v in values.items()}
    return {"name": name, "unit": unit, "apus": short[APUS], "envoy": short[ENVOY], "raw": short[RAW], "bar": text, "held": held} | \
        ({"ratio": float(f"{compared:.4g}")} if kind and compared is not None else {})


def capture_rows(rounds, scale):
    """What capture costs by nf_tables and by eBPF, beside the same without (in the column of raw). No bars: they are told."""
    figures = capture.run(rounds, scale)
    middle = lambda means, figure: float(f"{median([r[figure] for r in figures[means]]):.4g}")
    return [{"name": f"capture by {means}, {name}", "unit": unit, "apus": middle(means, figure), "envoy": None, "raw": middle("none", figure),
             "bar": "told", "held": None} for name, unit, figure in CAPTURE for means in ("nftables", "ebpf")]


def enrolment_rows():
    done = subprocess.run([sys.executable, os.path.join(HERE, "enrolment", "run")], capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        print(f"   ! enrolment: {done.stderr.strip()[-300:]}", flush=True)
        got = {}
    else: got = json.loads(done.stdout.splitlines()[-1])
    bars, rows = got.get("bars", {}), []
    for name, unit, figure in ENROLMENT:
        value = got.get(figure)
        rows.append({"name": name, "unit": unit, "apus": value, "envoy": None, "raw": None, "bar": f"<= {bars.get(figure, '?')}",
                     "held": None if value is None else value <= bars[figure]})
    stock = got.get("kernel_kib_per_pod")
    return rows + [{"name": "memory of the kernel for it, with the stock of sockets", "unit": "KiB", "apus": stock, "envoy": None, "raw": None,
                    "bar": "told", "held": None}]


def show(doc):
    mark = {True: "held", False: "MISSED", None: "not measured"}
    text = lambda v: "-" if v is None else f"{v:g}"
    for r in doc["rows"]:
        # What has no bar is told and neither held nor missed.
        verdict = "" if r["bar"] == "told" and r["apus"] is not None else mark[r["held"]]
        # What was held against the bar; elsewhere that of the two columns.
        against = r.get("ratio") or (r["apus"] / r["envoy"] if r["apus"] is not None and r["envoy"] else None)
        ratio = f" x{against:.2f}" if against else ""
        print(f"{r['name']:<60} {text(r['apus']):>9} {text(r['envoy']):>9} {text(r['raw']):>9} {r['unit']:<19} {r['bar']:<16} {verdict}{ratio}")


# ---- main --------------------------------------------------------------------------------------------------------
def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("what", nargs="+", help="full, quick, or names of benchmarks")
    a.add_argument("--rounds", type=int, default=0)
    a.add_argument("--without-envoy", action="store_true", help="leave its column empty")
    a.add_argument("--without-mesh", action="store_true", help="measure nothing over xDS, which needs grpcio")
    o = a.parse_args()
    quick, chosen = "quick" in o.what, set(o.what) - {"full", "quick"}
    for name in chosen - set(HARNESS + OWN): a.error(f"no benchmark {name}; there are {' '.join(HARNESS + OWN)}")
    # A quick run leaves out what takes minutes, unless it is named.
    chosen = chosen or set(HARNESS + OWN) - ({"scale", "enrolment"} if quick else set())
    measured = chosen - ({"mesh"} if o.without_mesh else set())
    if os.geteuid(): raise SystemExit("needs root: it makes network namespaces")
    # Beside others a run in full would wait for minutes with more patience than that.
    rounds, length, patience = (2, 0.3, 3) if quick else (5, 1.0, 10)
    rounds = o.rounds or rounds
    pair = [APUS] if o.without_envoy else [APUS, ENVOY]
    before, begun = bench.machine_cpu(), time.time()

    figures, machine, quiet = {}, {}, {}
    work = [n for n in HARNESS if n in chosen]
    if work or "start" in chosen:
        figures, machine = harness([RAW] + pair, work, rounds, length, patience)
        busy = [r["others' cores while measuring, worst"] for rs in figures.values() for r in rs if "others' cores while measuring, worst" in r]
        if busy: quiet = {"others_cores_median": round(statistics.median(busy), 2), "others_cores_worst": round(max(busy), 2)}
    if "workers" in chosen:
        both, _ = harness([APUS, "apus-2"], ["bulk4"], rounds, length, patience)
        cpu = lambda path: [r.get("bulk4 proxy CPU s/GB") for r in both[path]]
        figures.setdefault(APUS, []).extend({"ratio": two / one} for one, two in zip(cpu(APUS), cpu("apus-2")) if one and two)
    if "scale" in chosen: attempt(figures, APUS, scale.measure)
    ciphers = {}
    if measured & {"memory", "mesh"}:
        with cluster.Machine() as here:
            for path in pair if "memory" in chosen else []:
                for _ in range(1 if quick else min(rounds, 3)): attempt(figures, path, lambda: here.memory(path))
            for _ in range((1 if quick else min(rounds, 3)) if "mesh" in measured else 0):
                attempt(figures, APUS, here.mesh)
            ciphers = {path: sorted(suites) for path, suites in here.ciphers.items()}

    # Figures of one name stand together again, round by round, whichever run they come from.
    for spec in ROWS:
        for path, rs in figures.items():
            got = [r[spec[3]] for r in rs if spec[3] in r]
            for index, r in enumerate(rs):
                r.pop(spec[3], None)
                if index < len(got): r[spec[3]] = got[index]
    more = capture_rows(2 if quick else min(rounds, 3), length) if "capture" in chosen else []
    if "enrolment" in chosen: more += enrolment_rows()
    machine = machine or {"cores": os.cpu_count(), "kernel": os.uname().release}
    after = bench.machine_cpu()
    stolen = (after[1] - before[1]) / (time.time() - begun)
    doc = {"rows": [row(s, figures) for s in ROWS if s[2] in chosen] + more, "rounds": rounds, "machine": machine,
           "quiet": {**quiet, "stolen_cores": round(stolen, 3)}, "ciphers": ciphers, "seconds": round(time.time() - begun)}
    folder = os.path.join(ROOT, ".build", "bench")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "results.json"), "w") as f: json.dump(doc, f, indent=1)
    print()
    show(doc)
    print(f"\n{machine}; {rounds} rounds in {doc['seconds']} s; used by others meanwhile: {doc['quiet']}")
    for path, suites in ciphers.items(): print(f"cipher of {path}: {', '.join(suites)}")
    print(f"written: {folder}/results.json")


if __name__ == "__main__":
    main()
