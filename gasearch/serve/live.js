"use strict";
// The live page: asks for what is new, and draws it. All that comes from files is put in as text.
(function () {
  const $ = (id) => document.getElementById(id);
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const columns = $("columns"), xChoice = $("x"), live = $("live"), state = $("state");
  const drawn = new Map();  // by run: version and x that are shown
  const hidden = new Set();
  const ready = new Promise((resolve) => {  // texts and tables do not wait for what draws figures
    if (window.Plotly) resolve(); else $("plotly").addEventListener("load", resolve);
  });
  const filled = new WeakMap();
  const widths = new Map();
  const sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const before = widths.get(target);
      widths.set(target, contentRect.width);
      if (before !== undefined && contentRect.width && before !== contentRect.width) Plotly.Plots.resize(target);
    }
  });
  let seen = null, timer = null, failures = 0, asking = false, wanted = "";

  // --- small helpers
  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }
  async function asked(path) {
    const answer = await fetch(path, { cache: "no-cache" });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error || answer.statusText);
    return found;
  }
  function say(text, isBad) {
    state.textContent = text;
    state.className = isBad ? "bad" : "";
  }

  // --- blocks of sections
  function table(block, run) {
    const made = element("table"), wide = element("div", undefined, "wide");
    if (block.caption) made.append(element("caption", block.caption));
    if (block.columns.some((name) => name)) {
      const head = made.createTHead().insertRow();
      for (const name of block.columns) head.append(element("th", name));
    }
    const body = made.createTBody();
    for (const row of block.rows) {
      const line = body.insertRow();
      for (const cell of row) {
        const place = line.insertCell();
        if (typeof cell === "string") place.textContent = cell;
        else {
          const button = element("button", cell[0], "show");
          button.dataset.run = run;
          button.dataset.target = cell[1];
          place.append(button);
        }
      }
    }
    wide.append(made);
    return wide;
  }
  function block(one, run) {
    if (one.kind === "text") return element("p", one.text, one.is_warning ? "warning" : "");
    if (one.kind === "table") return table(one, run);
    const place = element("div", undefined, "plot");
    place.style.height = one.layout.height + "px";  // so that nothing jumps when it is drawn
    place.dataset.figure = one.name;
    place.dataset.run = run;
    return place;
  }
  async function draw(place, one, x) {
    await ready;
    if (!place.isConnected) return;
    one.layout.uirevision = one.name + x;  // keeps what the reader zoomed into
    one.layout.autosize = true;
    const isNew = !place.classList.contains("js-plotly-plot");
    Plotly.react(place, one.data, one.layout, options);
    if (!isNew) return;
    sizes.observe(place);
    place.on("plotly_click", (event) => {
      const target = event.points[0].customdata;
      if (target) show(Number(place.dataset.run), target);
    });
  }
  // Fill a section anew, but keep the places of its figures, so that they do not flicker.
  function fill(home, section, run, x) {
    const text = JSON.stringify([section, run, x]);
    if (filled.get(home) === text) return;  // a click must not meet what was just replaced
    filled.set(home, text);
    const figures = new Map([...home.querySelectorAll(".plot")].map((one) => [one.dataset.figure, one]));
    const scrolled = [...home.querySelectorAll(".wide")].map((one) => one.scrollTop);
    const parts = section.blocks.map((one) => [one, (one.kind === "chart" && figures.get(one.name)) || block(one, run)]);
    for (const [name, place] of figures) if (!section.blocks.some((one) => one.name === name)) {
      sizes.unobserve(place);
      widths.delete(place);
      if (window.Plotly) Plotly.purge(place);
    }
    home.replaceChildren(...(section.title ? [element("h3", section.title)] : []), ...parts.map(([, place]) => place));
    for (const [one, place] of parts) if (one.kind === "chart") draw(place, one, x);
    home.querySelectorAll(".wide").forEach((one, n) => { one.scrollTop = scrolled[n] || 0; });
  }
  function part(home, key) {
    let found = [...home.children].find((one) => one.dataset.key === key);
    if (!found) {
      found = element("section");
      found.dataset.key = key;
      home.append(found);
    }
    return found;
  }

  // --- runs
  function column(run) {
    let found = [...columns.children].find((one) => one.dataset.run === String(run.number));
    if (!found) {
      found = element("div", undefined, "run");
      found.dataset.run = run.number;
      found.append(element("h2", run.name));
      columns.append(found);
    }
    found.hidden = hidden.has(run.number);
    return found;
  }
  const HEADS = ["run", "cell", "level of theory", "state", "done", "", "per hour", "overall", "valid", "ground states"];
  function overview(runs) {
    const place = $("overview");
    if (!place.tHead.rows.length) {
      const head = place.tHead.insertRow();
      for (const name of HEADS) head.append(element("th", name));
    }
    const rows = runs.map((run) => {
      const row = element("tr");
      const done = run.done === undefined ? "" : run.done.toLocaleString("en") + (run.budget ? " of " + run.budget.toLocaleString("en") : "");
      const cells = [run.name, run.cell, run.level, run.state, done, null, run.last_hour, run.overall, run.valid, run.ground_states];
      for (const cell of cells) {
        if (cell !== null) row.append(element("td", cell === undefined ? "-" : String(cell)));
        else {
          const bar = element("progress");
          bar.max = run.budget || 1;
          bar.value = run.done || 0;
          const inside = element("td");
          inside.append(bar);
          row.append(inside);
        }
      }
      return row;
    });
    place.tBodies[0].replaceChildren(...rows);
  }
  function choices(runs) {
    const shares = [...new Set(runs.flatMap((run) => run.x))].sort((a, b) => a - b);
    if (shares.length + 1 !== xChoice.options.length) {
      const before = xChoice.value;
      xChoice.replaceChildren(...["", ...shares].map((x) => {
        const option = element("option", x === "" ? "all" : String(Number(x.toFixed(4))));
        option.value = String(x);
        return option;
      }));
      xChoice.value = before;
      if (xChoice.selectedIndex < 0) xChoice.value = "";
    }
    xChoice.parentElement.hidden = shares.length < 2;
    if ($("runs").children.length !== (runs.length > 1 ? runs.length : 0)) {
      $("runs").replaceChildren(...runs.map((run) => {
        const label = element("label"), box = element("input");
        box.type = "checkbox";
        box.checked = !hidden.has(run.number);
        box.addEventListener("change", () => {
          if (box.checked) hidden.delete(run.number); else hidden.add(run.number);
          look();
        });
        label.append(box, " " + run.name);
        return label;
      }));
    }
  }
  function head(run, home) {
    const place = part(home, "head");
    const texts = [...run.warnings.map((text) => element("p", text, "warning")), ...run.lines.map((text) => element("p", text))];
    place.replaceChildren(...texts);
    for (const section of run.leases || []) fill(part(home, section.key), section, run.number, "");
  }
  async function sections(run, home) {
    const x = xChoice.value, key = run.version + " " + x;
    if (!run.version || home.hidden || drawn.get(run.number) === key) return;
    const found = await asked(`api/run?n=${run.number}&x=${encodeURIComponent(x)}`);
    if (x !== xChoice.value) return;
    for (const section of found.sections) fill(part(home, section.key), section, run.number, x);
    drawn.set(run.number, found.version + " " + x);
    home.dataset.version = found.version;
  }
  async function update() {
    const found = await asked("api/runs");
    if (seen && seen !== found.version) location.reload();
    seen = found.version;
    choices(found.runs);
    overview(found.runs);
    const homes = found.runs.map(column);
    found.runs.forEach((run, n) => head(run, homes[n]));
    await Promise.all(found.runs.map((run, n) => sections(run, homes[n])));
    const oldest = Math.min(...found.runs.map((run) => run.looked_s));
    const isEarly = found.runs.some((run) => !run.is_whole && !run.trouble) || found.now_s - oldest > 2 * found.every_s;
    say(oldest ? `as of ${new Date(1000 * oldest).toLocaleTimeString("en-GB")}` : "reading", false);
    return isEarly ? 400 : 1000 * found.every_s;
  }
  async function look() {
    clearTimeout(timer);
    if (asking) { wanted = "again"; return; }
    asking = true;
    let wait_ms = 5000;
    try {
      wait_ms = await update();
      failures = 0;
    } catch (error) {
      failures += 1;
      wait_ms = Math.min(30000, 1000 * 2 ** failures);
      say(`no answer (${error.message}); trying again. Is gasearch serve running, and the tunnel up?`, true);
    }
    asking = false;
    if (wanted) { wanted = ""; wait_ms = 0; }
    if (live.checked && !document.hidden) timer = setTimeout(look, wait_ms);
  }

  // --- one candidate
  async function show(run, target) {
    const [number, ...level] = target.split(" ");
    try {
      const found = await asked(`api/candidate?n=${run}&id=${number}&level=${encodeURIComponent(level.join(" "))}`);
      $("candidate").hidden = false;
      $("candidate-title").textContent = found.title;
      window.addStructure(found.structure);
      const home = $("candidate-sections");
      home.replaceChildren();
      for (const section of found.sections) {
        const place = part(home, section.key);
        place.className = section.key;
        fill(place, section, run, "");
      }
      $("candidate").dataset.shown = `${run} ${target}`;
    } catch (error) {
      say(`candidate ${number}: ${error.message}`, true);
    }
  }
  function close() { $("candidate").hidden = true; }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.show");
    if (button) show(Number(button.dataset.run), button.dataset.target);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  $("close").addEventListener("click", close);
  live.addEventListener("change", look);
  xChoice.addEventListener("change", look);
  look();
})();
