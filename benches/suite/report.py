"""Medians, ratios, targets and the Markdown table with its charts."""

import statistics

BAR = 40


def percentile(values, share):
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * share // 100) - 1))]


def summary(cell, runs, missing, content, payload):
    """One cell's figures out of its runs."""
    arms = {}
    for arm, all_runs in runs.items():
        median = {key: statistics.median(run[key] for run in all_runs) for key in all_runs[0]}
        walls = [run["wall"] for run in all_runs]
        moved = max(cell.moved, 1)
        arms[arm] = {
            "runs": all_runs, "median": median, "wall_p50": percentile(walls, 50), "wall_p95": percentile(walls, 95),
            "rows_per_second": cell.moved / median["wall"],
            "payload_mb_per_second": payload / 2**20 / median["wall"] if payload else None,
            "cpu_per_million_rows": median["cpu"] / moved * 1e6, "server_cpu_per_million_rows": median["server_cpu"] / moved * 1e6,
            "peak_rss_mb": max(run["peak_rss_mb"] for run in all_runs),
        }
    return {"cell": cell.name, "about": cell.about, "rows": cell.moved, "payload_bytes": payload, "dataset": content, "arms": arms,
            "missing": missing, "ratio": ratios(arms), "targets": cell.targets}


def ratios(arms):
    """How each arm compares with Rapidbyte: above 1, Rapidbyte is faster."""
    ours = arms.get("rapidbyte")
    return {arm: figures["median"]["wall"] / ours["median"]["wall"] for arm, figures in arms.items()} if ours else {}


def missed(result):
    """Targets that this cell does not reach, in words."""
    targets, ours, words = result["targets"], result["arms"].get("rapidbyte"), []
    if not ours:
        return [f"{result['cell']}: {result['missing'].get('rapidbyte', 'not run')}"] if targets else []
    found = {"ratio": result["ratio"].get("floor", 0.0), "cpu": ours["cpu_per_million_rows"], "rss": ours["peak_rss_mb"],
             "wall": ours["median"]["wall"]}
    for key, wanted in targets.items():
        short = found[key] < wanted if key == "ratio" else found[key] > wanted
        if short:
            words.append(f"{result['cell']}: {key} {found[key]:.3g}, target {wanted:g}")
    return words


def rate(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def markdown(document):
    facts, lines = document["machine"], ["# Benchmark results\n"]
    lines.append(f"{document['at']}, `{document['versions']['rapidbyte']}` at {document['commit']}; PostgreSQL {document['postgres']} (source and "
                 f"destination in one server, 127.0.0.1, logged tables, synchronous commit; TLS off unless the cell says so); {facts['cores']} cores of "
                 f"{facts['cpu']}, {facts['memory_gb']} GB, Linux {facts['kernel']}. {document['rounds']} alternating rounds; what was delivered is compared "
                 "by hash after each. `×` is another arm's median wall time divided by Rapidbyte's: above 1, Rapidbyte is faster.\n")
    if document["others_cores"] > document["quiet_cores"]:
        lines.append(f"**Others used {document['others_cores']:.1f} cores of this machine: its wall times mean little.**\n")
    versions = [f"{name}: {version}" for name, version in document["versions"].items() if version and name != "rapidbyte"]
    lines.append("Arms: " + "; ".join(versions) + ".\n")
    for result in document["cells"]:
        lines += cell_table(result)
    short = [words for result in document["cells"] for words in missed(result)]
    lines.append("## Targets\n")
    lines += [f"- missed: {words}" for words in short] or ["All targets of the cells above are reached."]
    lines.append("\nHow it is measured: [README](README.md).")
    return "\n".join(lines) + "\n"


def cell_table(result):
    lines = [f"## {result['cell']}\n", f"{result['about']}; {result['rows']:,} rows"
             + (f", {result['payload_bytes'] / 2**20:,.0f} MB as binary COPY" if result["payload_bytes"] else "") + ".\n",
             "| Arm | p50 s | p95 s | × | Rows/s | MB/s | CPU s per M rows (servers) | Peak RSS MB | Others' CPU s |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for arm, figures in result["arms"].items():
        median, speed = figures["median"], figures["payload_mb_per_second"]
        lines.append(f"| {arm} | {figures['wall_p50']:.3f} | {figures['wall_p95']:.3f} | {result['ratio'].get(arm, 0):.2f} | {rate(figures['rows_per_second'])} "
                     f"| {'' if speed is None else rate(speed)} | {figures['cpu_per_million_rows']:.2f} ({figures['server_cpu_per_million_rows']:.2f}) "
                     f"| {figures['peak_rss_mb']:.0f} | {median['other_cpu']:.1f} |")
    lines.append("\n```text")
    longest = max(figures["median"]["wall"] for figures in result["arms"].values())
    for arm, figures in result["arms"].items():
        wall = figures["median"]["wall"]
        lines.append(f"{arm:<10} {'█' * max(1, round(BAR * wall / longest)):<{BAR}} {wall:.3f} s")
    lines.append("```\n")
    gone = [f"{arm}: {why}" for arm, why in result["missing"].items()]
    if gone:
        lines.append("Missing: " + "; ".join(gone) + ".\n")
    return lines
