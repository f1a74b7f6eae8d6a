// A small viewer: atoms as shaded discs, far ones first, with bonds and the cell. No WebGL.
(function () {
  const place = document.getElementById("canvas");
  if (!place) return;
  const given = document.getElementById("gasearch-structures");  // none on the live page
  const structures = given ? JSON.parse(given.textContent) : [];
  const byKey = new Map(structures.map((one) => [one.key, one]));
  const chooser = document.getElementById("structure");
  const bonds = document.getElementById("show-bonds");
  const anions = document.getElementById("show-anions");
  const pen = place.getContext("2d");
  const KNOWN = { "Fe2+": "#0072B2", "Fe3+": "#E69F00", "Na+": "#009E73", "Li+": "#009E73", "P5+": "#999999", "Si4+": "#999999", "O2-": "#ffffff", "vacancy": "#222222" };
  const OTHERS = ["#CC79A7", "#56B4E9", "#D55E00", "#F0E442"];
  const TILTED = [[0.94, 0, 0.34], [0.12, 0.94, -0.33], [-0.32, 0.35, 0.88]];
  const MOST_KEPT = 40;
  let shown = structures[0];
  let turn = TILTED;
  let zoom = 1;
  let pointer = null;

  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const apply = (m, v) => m.map((row) => dot(row, v));
  const multiply = (a, b) => a.map((row) => [0, 1, 2].map((j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
  const plus = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
  const isAnion = (name) => name.endsWith("-");
  const colour = (name, n) => KNOWN[name] || OTHERS[n % OTHERS.length];
  const radius = (name) => (isAnion(name) ? 0.32 : name === "vacancy" ? 0.34 : /^(P|Si)\d/.test(name) ? 0.36 : 0.58);

  function corners(cell) {
    const found = [];
    for (let n = 0; n < 8; n++) {
      let at = [0, 0, 0];
      for (let k = 0; k < 3; k++) if ((n >> k) & 1) at = plus(at, cell[k]);
      found.push(at);
    }
    return found;
  }

  function draw() {
    if (!shown) return;
    const ratio = window.devicePixelRatio || 1;
    const width = place.clientWidth, height = place.clientHeight;
    place.width = width * ratio;
    place.height = height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const cell = shown.cell;
    const middle = [0, 1, 2].map((k) => (cell[0][k] + cell[1][k] + cell[2][k]) / 2);
    const reach = Math.max(...corners(cell).map((c) => Math.hypot(...plus(c, middle.map((m) => -m)))));
    const scale = (zoom * Math.min(width, height)) / (2.1 * reach);
    const flat = (v) => {
      const t = apply(turn, plus(v, middle.map((m) => -m)));
      return [width / 2 + scale * t[0], height / 2 - scale * t[1], t[2]];
    };
    const things = [];
    const points = shown.positions.map(flat);
    corners(cell).forEach((corner, n) => {
      for (let k = 0; k < 3; k++) if (!((n >> k) & 1)) {
        const a = flat(corner), b = flat(plus(corner, cell[k]));
        things.push([-1e9, () => line(a, b, "#777", 1)]);
      }
    });
    cell.forEach((vector, k) => {
      const tip = flat(vector.map((v) => 1.06 * v));
      things.push([1e9, () => label("abc"[k], tip, "#222", 14)]);
    });
    if (bonds.checked && anions.checked) for (const [i, j, ...shift] of shown.bonds) {
      const a = points[i];
      const b = shift.length ? flat(plus(shown.positions[j], shift)) : points[j];
      const away = radius(shown.kinds[shown.kind[i]]) * scale, length = Math.hypot(b[0] - a[0], b[1] - a[1]);
      if (length <= away) continue;
      const edge = [a[0] + (b[0] - a[0]) * away / length, a[1] + (b[1] - a[1]) * away / length];
      things.push([(a[2] + b[2]) / 2 - 0.2, () => line(edge, b, "#b5b5b5", Math.max(1, 0.09 * scale))]);
    }
    points.forEach((point, n) => {
      const name = shown.kinds[shown.kind[n]];
      if (isAnion(name) && !anions.checked) return;
      const size = radius(name) * scale * (1 + point[2] / (12 * reach));
      things.push([point[2], () => atom(point, name, shown.kind[n], size)]);
    });
    things.sort((a, b) => a[0] - b[0]);
    for (const [, paint] of things) paint();
  }

  function line(a, b, style, width) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(a[0], a[1]);
    pen.lineTo(b[0], b[1]);
    pen.stroke();
  }

  function label(text, at, style, size) {
    pen.fillStyle = style;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, at[0], at[1]);
  }

  function atom(point, name, kind, size) {
    pen.lineWidth = 1;
    pen.strokeStyle = "#444";
    if (name === "vacancy") {
      pen.lineWidth = 2;
      pen.strokeRect(point[0] - size, point[1] - size, 2 * size, 2 * size);
      return;
    }
    pen.beginPath();
    pen.arc(point[0], point[1], size, 0, 2 * Math.PI);
    pen.fillStyle = colour(name, kind);
    pen.fill();
    pen.stroke();
    const charge = name.match(/(\d)\+$/);
    if (charge && /^(Fe|Mn|Co|Ni|V|Cr|Ti)/.test(name) && size > 7) label(charge[1] + "+", point, name === "Fe2+" ? "#fff" : "#000", Math.max(9, 0.9 * size));
  }

  function describe() {
    const legend = document.getElementById("legend");
    legend.textContent = "";
    shown.kinds.forEach((name, kind) => {
      const item = document.createElement("span"), mark = document.createElement("i");
      mark.style.background = colour(name, kind);
      if (name === "vacancy") mark.className = "square";
      const count = shown.kind.filter((k) => k === kind).length;
      item.append(mark, `${name} (${count})`);
      legend.append(item);
    });
    let text = shown.caption;
    if (shown.moments) {
      const iron = shown.kind.map((k, n) => [shown.kinds[k], shown.moments[n]]).filter(([name, m]) => m !== undefined && /^(Fe|Mn|Co|Ni|V|Cr|Ti)/.test(name));
      text += "; moments (μB): " + iron.map(([name, m]) => `${name} ${m.toFixed(2)}`).join(", ");
    }
    document.getElementById("structure-caption").textContent = text;
  }

  function show(key) {
    const found = byKey.get(key);
    if (!found) return;
    shown = found;
    chooser.value = key;
    describe();
    draw();
  }

  window.showStructure = function (key) {
    if (!byKey.has(key)) return;
    show(key);
    document.getElementById("structures").scrollIntoView({ behavior: "smooth" });
  };

  // Take one more structure and show it; the oldest of many is let go.
  window.addStructure = function (one) {
    if (!byKey.has(one.key)) {
      const option = document.createElement("option");
      option.value = one.key;
      option.textContent = one.name;
      chooser.append(option);
      if (chooser.options.length > MOST_KEPT) {
        byKey.delete(chooser.options[0].value);
        chooser.options[0].remove();
      }
    }
    byKey.set(one.key, one);
    show(one.key);
  };

  chooser.addEventListener("change", () => show(chooser.value));
  bonds.addEventListener("change", draw);
  anions.addEventListener("change", draw);
  for (const button of document.querySelectorAll("[data-axis]")) button.addEventListener("click", () => {
    if (!shown) return;
    const k = Number(button.dataset.axis);
    const unit = (v) => v.map((part) => part / Math.hypot(...v));
    const out = unit(shown.cell[k]);
    const side = shown.cell[(k + 1) % 3];
    const right = unit(side.map((part, n) => part - dot(side, out) * out[n]));
    const up = [out[1] * right[2] - out[2] * right[1], out[2] * right[0] - out[0] * right[2], out[0] * right[1] - out[1] * right[0]];
    turn = [right, up, out];
    draw();
  });
  place.addEventListener("pointerdown", (event) => {
    pointer = [event.clientX, event.clientY];
    place.setPointerCapture(event.pointerId);
  });
  place.addEventListener("pointerup", () => { pointer = null; });
  place.addEventListener("pointercancel", () => { pointer = null; });
  place.addEventListener("pointermove", (event) => {
    if (!pointer) return;
    const dx = (event.clientX - pointer[0]) / 150, dy = (event.clientY - pointer[1]) / 150;
    pointer = [event.clientX, event.clientY];
    const aboutY = [[Math.cos(dx), 0, Math.sin(dx)], [0, 1, 0], [-Math.sin(dx), 0, Math.cos(dx)]];
    const aboutX = [[1, 0, 0], [0, Math.cos(dy), -Math.sin(dy)], [0, Math.sin(dy), Math.cos(dy)]];
    turn = multiply(aboutX, multiply(aboutY, turn));
    draw();
  });
  place.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom = Math.min(8, Math.max(0.3, zoom * Math.exp(-event.deltaY / 600)));
    draw();
  }, { passive: false });
  window.addEventListener("resize", draw);
  if (!structures.length) return;
  const mixed = structures.find((one) => one.kinds.includes("vacancy") && one.kinds.length === Math.max(...structures.map((s) => s.kinds.length)));
  show((mixed || structures[1] || structures[0]).key);
})();
