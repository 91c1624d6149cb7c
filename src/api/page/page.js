"use strict";
(() => {
  const POLL_MS = 1000, KEPT = 120, RATE_OVER = 5, MINUTE = 60;
  const $ = (id) => document.getElementById(id);
  const text = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };
  const make = (tag, props, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const sum = (of) => Object.values(of).reduce((all, one) => all + one, 0);

  // Numbers for people: three digits that count, and a unit.
  const scaled = (value, steps, units, digits = 3) => {
    let at = 0;
    while (at < units.length - 1 && Math.abs(value) >= steps) { value /= steps; at += 1; }
    const whole = Math.abs(value) >= 100 || Number.isInteger(value);
    return (whole ? Math.round(value).toString() : value.toPrecision(digits)) + units[at];
  };
  const count = (value) => Math.round(value).toLocaleString("en");
  const rate = (value) => value < 1000 ? (value < 10 && value > 0 ? value.toFixed(1) : count(value)) : scaled(value, 1000, ["", " k", " M", " G"]);
  const bytes = (value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
  const seconds = (value) => {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0 s";
    if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
    if (value < 1) return `${(value * 1e3).toPrecision(value < 0.1 ? 2 : 3)} ms`;
    if (value < 100) return `${value.toPrecision(3)} s`;
    const minutes = value / 60;
    if (minutes < 100) return `${Math.round(minutes)} min`;
    const hours = minutes / 60;
    return hours < 48 ? `${Math.round(hours)} h` : `${Math.round(hours / 24)} days`;
  };
  const share = (part, whole) => whole > 0 ? Math.min(1, part / whole) : 0;
  const percent = (part) => `${(part * 100).toFixed(part > 0 && part < 0.1 ? 1 : 0)}\u00a0%`;

  const bar = (node, part, label) => {
    node.firstElementChild.style.width = `${part * 100}%`;
    node.classList.toggle("near", part >= 0.6 && part < 0.8);
    node.classList.toggle("full", part >= 0.8);
    node.setAttribute("aria-label", label);
  };

  // The last samples, oldest first. Rates are by the server's clock: this one may sleep.
  let samples = [], polls = 0, token = sessionStorage.getItem("tidegate-token");
  const accepted = (s) => sum(s.records.accepted);
  const applied = (s) => sum(s.records.outcomes);
  const since = (back) => samples[Math.max(0, samples.length - 1 - back)];
  const rateOf = (of, from, to) => {
    const time = to.uptime_seconds - from.uptime_seconds;
    return time > 0 ? Math.max(0, of(to) - of(from)) / time : 0;
  };

  const spark = (id, of, name) => {
    const rates = samples.slice(1).map((s, at) => rateOf(of, samples[at], s));
    const most = Math.max(...rates, 1), step = 240 / (KEPT - 2), start = 240 - step * (rates.length - 1);
    const points = rates.map((r, at) => `${(start + at * step).toFixed(1)} ${(46 - 43 * r / most).toFixed(1)}`);
    const svg = $(id);
    svg.setAttribute("aria-label", rates.length ? `${name} over the last ${seconds(samples.at(-1).uptime_seconds - samples[0].uptime_seconds)}: at most ${rate(most)} a second` : name);
    svg.dataset.points = rates.length;
    if (points.length < 2) return;
    const paths = ["under", ""].map((kind) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", kind);
      const line = `M${points.join("L")}`;
      path.setAttribute("d", kind ? `${line}L240 48L${start.toFixed(1)} 48Z` : line);
      return path;
    });
    svg.replaceChildren(...paths);
  };

  const drawLog = (log) => {
    for (const mark of ["checkpoint", "applied", "durable", "appended"]) text(`m-${mark}`, count(log[mark]));
    const all = log.appended - log.checkpoint;
    const parts = [["l-apply", log.applied - log.checkpoint], ["l-wait", log.durable - log.applied], ["l-sync", log.appended - log.durable]];
    for (const [id, frames] of parts) {
      $(id).style.flex = all > 0 && frames > 0 ? `${frames} 0 4px` : "0 0 0px";
      text(`${id}-frames`, count(frames));
    }
    $("life").setAttribute("aria-label", `${count(all)} frames between checkpoint and end: ${count(parts[0][1])} in the engine but not in files yet, ${count(parts[1][1])} waiting for the engine, ${count(parts[2][1])} not synced`);
    const part = share(log.bytes, log.bytes_max);
    bar($("space"), part, `${percent(part)} of the log's limit is in use`);
    const kept = log.retained_bytes > 0 ? `; ${bytes(log.retained_bytes)} more are kept to be sent again` : "";
    text("space-note", `${bytes(log.bytes)} of ${bytes(log.bytes_max)} hold frames that are not in files yet${kept}. When it is full, writes are answered 503.`);
  };

  const drawShards = (now, before) => {
    $("shards").replaceChildren(...now.shards.map((shard, at) => {
      const was = before.shards[at] || shard, time = now.uptime_seconds - before.uptime_seconds;
      const queue = make("div", { className: "bar" }, make("i"));
      queue.setAttribute("role", "img");
      bar(queue, share(shard.queue_frames, shard.queue_frames_max), `${shard.queue_frames} of ${shard.queue_frames_max} frames`);
      const per = (of) => time > 0 ? Math.max(0, of(shard) - of(was)) / time : 0;
      const name = make("th", { scope: "row", textContent: shard.shard });
      return make("tr", {}, name, make("td", { className: "cell" }, queue, make("span", { textContent: count(shard.queue_frames) })),
        make("td", { textContent: rate(per((s) => s.records)) }),
        make("td", { textContent: percent(Math.min(1, per((s) => s.busy_seconds))) }));
    }));
  };

  const LATENCIES = [["ack", "a body read, to its acknowledgement"], ["sync", "one sync of the log"], ["visible_after_ack", "acknowledgement, to readable"], ["http", "a request's header, to its answer"]];
  const drawLatency = (latency) => {
    const { ack } = latency;
    text("ack-p99", seconds(ack.p99));
    text("ack-p50", seconds(ack.p50));
    const span = ack.window_seconds === null ? "since the start" : `last ${Math.round(ack.window_seconds)} s`;
    text("ack-note", ack.count ? `${count(ack.count)} writes, ${span}` : "no writes lately");
    text("window", span);
    $("latency").replaceChildren(...LATENCIES.map(([key, name]) => make("tr", {}, make("th", { scope: "row", textContent: name }),
      ...["p50", "p99", "p999", "max"].map((of) => make("td", { className: of === "max" ? "roomy" : "", textContent: seconds(latency[key][of]) })))));
  };

  const show = async (link, reason) => {
    const reply = await ask(link).catch((error) => ({ text: async () => String(error) }));
    text("shown-title", reason);
    let body = await reply.text();
    try { body = JSON.stringify(JSON.parse(body), null, 2); } catch { /* not JSON: as it is */ }
    text("shown-text", body);
    $("shown").showModal();
  };
  const reasonRows = new Map();
  const reasonRow = (reason) => {
    const link = `api/v1/rejects?reason=${encodeURIComponent(reason)}`;
    const anchor = make("a", { href: link, textContent: reason });
    // A link cannot carry the token.
    anchor.onclick = (event) => {
      if (!token) return;
      event.preventDefault();
      show(link, reason);
    };
    return make("tr", {}, make("th", { scope: "row" }, anchor), make("td"), make("td"), make("td", { className: "roomy" }));
  };
  const drawRejects = (now, minuteAgo) => {
    const { refused, reported } = now.records, all = { ...refused, ...reported };
    const reasons = Object.keys(all).sort((a, b) => (refused[b] || 0) + (reported[b] || 0) - (refused[a] || 0) - (reported[a] || 0));
    $("rejects").hidden = reasons.length === 0;
    $("no-rejects").hidden = reasons.length > 0;
    // Of both counts the larger: what was kept may have been refused at the door first.
    const times = (s, reason) => Math.max(s.records.refused[reason] || 0, s.records.reported[reason] || 0);
    for (const reason of reasons) {
      if (!reasonRows.has(reason)) reasonRows.set(reason, reasonRow(reason));
      const cells = reasonRows.get(reason).cells;
      [refused[reason] || 0, reported[reason] || 0, times(now, reason) - times(minuteAgo, reason)]
        .forEach((value, at) => { cells[at + 1].textContent = count(value); });
    }
    // Rows stay, and move only when they must: whoever is at a link by keyboard stays there.
    const wanted = reasons.map((reason) => reasonRows.get(reason)), shown = $("reasons").children;
    if (wanted.length !== shown.length || wanted.some((row, at) => row !== shown[at])) $("reasons").replaceChildren(...wanted);
    const busy = Object.entries(now.requests.busy).map(([cause, times]) => `${count(times)} for ${cause}`);
    text("busy", busy.length ? `Answered 503: ${busy.join(", ")}.` : "");
  };

  const drawParts = (parts) => {
    $("parts").replaceChildren(...parts.flatMap((part) => [
      make("dt", {}, `${part.name} `, make("span", { className: part.status, textContent: { pass: "well", warn: "warns", fail: "fails" }[part.status] || part.status })),
      make("dd", { className: "quiet", textContent: part.message })]));
  };
  const drawFigures = (id, rows) => {
    $(id).replaceChildren(...rows.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  };

  const drawRest = (now, before) => {
    const { engine, process, requests } = now, part = share(engine.memory_bytes, engine.memory_bytes_max);
    bar($("memory"), part, `${percent(part)} of the memory store is in use`);
    const flush = engine.last_flush;
    drawFigures("engine", [
      ["memory store", `${bytes(engine.memory_bytes)} of ${bytes(engine.memory_bytes_max)}`],
      ["rows in memory", count(engine.memory_rows)], ["series in memory", count(engine.series)],
      ["files", `${count(engine.files)}, ${bytes(engine.file_bytes)}`],
      ["last flush", flush ? `${flush.rows < 1e6 ? count(flush.rows) : rate(flush.rows)} rows in ${seconds(flush.seconds)}, ${seconds(Math.max(0, flush.ago_seconds))} ago` : "none yet"]]);
    const held = share(requests.in_flight_bytes, requests.in_flight_bytes_max);
    bar($("requests"), held, `${percent(held)} of the memory for requests is in use`);
    const isOneDisk = now.disks.length > 0 && now.disks.every((disk) => disk.free_bytes === now.disks[0].free_bytes);
    const cores = rateOf((s) => s.process.cpu_seconds, before, now);
    drawFigures("process", [
      ["memory for requests", `${bytes(requests.in_flight_bytes)} of ${bytes(requests.in_flight_bytes_max)}`],
      ["connections", `${count(requests.connections)}, requests under way ${count(requests.in_flight)}`],
      ["own memory", bytes(process.private_bytes)], ["processors in use", cores.toFixed(2)],
      ["open files", `${count(process.open_fds)} of ${count(process.max_fds)}`],
      ["free disk", isOneDisk ? bytes(now.disks[0].free_bytes) : now.disks.map((disk) => `${bytes(disk.free_bytes)} (${disk.folder})`).join(", ")]]);
  };

  const drawState = (now) => {
    const worst = ["fail", "warn", "pass"].find((status) => now.parts.some((part) => part.status === status)) || "pass";
    const state = now.ready ? worst : "fail";
    const bad = now.parts.find((part) => part.status === worst);
    const words = !now.ready ? now.message : worst === "pass" ? "ready" : `${bad.name} ${worst === "fail" ? "fails" : "warns"}`;
    $("state").className = `pill ${state}`;
    text("state", words);
    document.title = `${state === "pass" ? "" : "! "}Tidegate ${rate(rateOf(accepted, since(RATE_OVER), now))}/s`;
  };

  const draw = (now) => {
    if (samples.length && now.uptime_seconds < samples.at(-1).uptime_seconds) samples = []; // restarted
    samples.push(now);
    if (samples.length > KEPT) samples.shift();
    const before = since(RATE_OVER);
    text("version", now.version);
    text("uptime", `· up ${seconds(now.uptime_seconds)}`);
    text("in-rate", rate(rateOf(accepted, before, now)));
    text("out-rate", rate(rateOf(applied, before, now)));
    text("in-total", count(accepted(now)));
    const by = Object.entries(now.records.accepted).filter(([, n]) => n > 0);
    text("in-by", by.length ? `(${by.map(([name, n]) => `${name} ${percent(n / accepted(now))}`).join(", ")})` : "");
    const outcomes = Object.entries(now.records.outcomes).filter(([, n]) => n > 0);
    text("out-by", outcomes.map(([name, n]) => `${name} ${n < 1e6 ? count(n) : rate(n)}`).join(", "));
    spark("in-line", accepted, "Records in");
    spark("out-line", applied, "Records applied");
    text("age", seconds(now.log.oldest_unapplied_seconds));
    text("behind", count(now.log.appended - now.log.applied));
    drawLog(now.log);
    drawShards(now, before);
    drawLatency(now.latency);
    drawRejects(now, samples.findLast((s) => now.uptime_seconds - s.uptime_seconds >= MINUTE) || samples[0]);
    drawParts(now.parts);
    drawRest(now, before);
    drawState(now);
    $("auth").hidden = true;
    $("main").hidden = false;
    $("forget").hidden = !token;
    document.body.classList.remove("stale");
    polls += 1;
    $("polled").dataset.polls = polls;
    text("polled", `live, asked ${count(polls)} times`);
  };

  const ask = (url) => fetch(url, {
    // Without the browser's own credentials, and so without its own dialog.
    credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(10_000),
    // As InfluxDB's clients show one: a token, or name:password.
    headers: token ? { Authorization: `Token ${token}` } : {},
  });
  const askWho = (why) => {
    $("main").hidden = true;
    $("auth").hidden = false;
    $("forget").hidden = true;
    $("state").className = "pill";
    text("state", "asks for a token");
    text("auth-why", why);
    $("token").focus();
  };
  const lost = (why) => {
    document.body.classList.add("stale");
    $("state").className = "pill fail";
    text("state", why);
  };

  let timer = 0;
  const poll = async () => {
    clearTimeout(timer);
    let again = true;
    try {
      const reply = await ask("api/v1/status");
      if (reply.status === 401 || reply.status === 403) {
        askWho(token ? "That token is not known here." : "Figures are shown to those with a token.");
        token = null;
        sessionStorage.removeItem("tidegate-token");
        again = false;
      } else if (!reply.ok) lost(`answers ${reply.status}`);
      else draw(await reply.json());
    } catch (error) {
      lost(error instanceof TypeError || error.name === "TimeoutError" ? "not reachable" : `cannot be shown: ${error.message}`);
    }
    if (again && !document.hidden) timer = setTimeout(poll, POLL_MS);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden && $("auth").hidden) poll(); });
  $("auth").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    sessionStorage.setItem("tidegate-token", token);
    $("token").value = "";
    poll();
  });
  $("forget").addEventListener("click", () => {
    token = null;
    sessionStorage.removeItem("tidegate-token");
    poll();
  });
  poll();
})();
