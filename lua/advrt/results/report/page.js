
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LEFT = 52, RIGHT = 14, TOP = 12, BOTTOM = 34;

  const element = (name, attributes, parent, text) => {
    const e = document.createElementNS(SVG, name);
    for (const key in attributes) e.setAttribute(key, attributes[key]);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.append(e);
    return e;
  };

  // Round steps of an axis: about `count` of 1, 2 or 5 times a power of ten.
  const ticks = (low, high, count) => {
    const raw = (high - low) / count, decade = 10 ** Math.floor(Math.log10(raw));
    const step = decade * [1, 2, 5, 10].find((k) => k * decade >= raw * 0.999);
    const list = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9 * step; v += step)
      list.push(Math.abs(v) < step * 1e-9 ? 0 : v);
    return list;
  };

  const label = (v) => v !== 0 && Math.abs(v) < 1e-3 ? v.toExponential(1) : String(Number(v.toPrecision(4)));

  const viewer = (root) => {
    const data = JSON.parse(root.querySelector("script").textContent);
    const select = root.querySelector("select"), slider = root.querySelector("input[type=range]");
    const output = root.querySelector("output"), chart = root.querySelector(".chart");
    const values = root.querySelector(".values");
    const radios = [...root.querySelectorAll("input[type=radio]")];

    const draw = () => {
      const image = data.images[select.value], at = Number(slider.value), n = data.steps[at];
      const quantity = data.quantities[radios.findIndex((r) => r.checked)];
      const width = Math.max(300, Math.min(1000, chart.clientWidth || 700));
      const height = Math.round(Math.max(220, Math.min(380, width * 0.45)));
      let low = 0, high = quantity.most || 0;
      if (!quantity.most) {
        const all = image.curves.flatMap((c) => quantity.series.flatMap((s) => c[s]));
        low = Math.min(0, ...all);
        high = Math.max(...all);
        if (high - low < 1e-12) high = low + 1;
      }
      const last = data.steps[data.steps.length - 1];
      const x = (v) => LEFT + v / last * (width - LEFT - RIGHT);
      const y = (v) => TOP + (high - v) / (high - low) * (height - TOP - BOTTOM);
      const svg = element("svg", {viewBox: `0 0 ${width} ${height}`, role: "img",
        "aria-label": `${quantity.title} by iteration of ${image.title}`});
      for (const v of ticks(low, high, 5)) {
        element("line", {x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v), stroke: "var(--gdddddd)"}, svg);
        element("text", {x: LEFT - 8, y: y(v) + 4, "text-anchor": "end"}, svg, label(v));
      }
      for (const v of ticks(0, last, width < 500 ? 4 : 8))
        element("text", {x: x(v), y: height - 14, "text-anchor": "middle"}, svg, label(v));
      element("text", {x: width - RIGHT, y: height - 1, "text-anchor": "end"}, svg, "iteration");
      element("line", {x1: x(n), x2: x(n), y1: TOP, y2: height - BOTTOM, stroke: "var(--ink)",
        "stroke-opacity": 0.35}, svg);
      values.replaceChildren();
      const head = values.createTHead().insertRow(), body = values.createTBody();
      const names = quantity.series.length === 2 ? ["target", "initial"] : [quantity.title];
      for (const text of ["Loss", ...names, "First flip"]) {
        const cell = document.createElement("th");
        cell.scope = "col";
        cell.textContent = text;
        head.append(cell);
      }
      image.curves.forEach((curve, l) => {
        const loss = data.losses[l], row = body.insertRow(), title = document.createElement("th");
        const chip = document.createElement("span");
        row.style.setProperty("--c", `var(${loss.colour})`);
        chip.className = "chip";
        title.scope = "row";
        title.append(chip, loss.title);
        row.append(title);
        quantity.series.forEach((s, k) => {
          const points = data.steps.map((step, i) => `${x(step).toFixed(1)},${y(curve[s][i]).toFixed(1)}`);
          element("polyline", {points: points.join(" "), fill: "none", stroke: `var(${loss.colour})`,
            "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": k === 1 ? "5 4" : "none"}, svg);
          row.insertCell().textContent = label(curve[s][at]);
        });
        const flip = image.flips[l];
        row.insertCell().textContent = flip < 0 ? "\u2013" : flip;
        if (flip >= 0) {
          const near = data.steps.findIndex((step) => step >= flip);
          const i = Math.max(1, near), a = data.steps[i - 1], b = data.steps[i], c = curve[quantity.series[0]];
          const v = near < 1 ? c[0] : c[i - 1] + (c[i] - c[i - 1]) * (flip - a) / (b - a);
          element("circle", {cx: x(flip), cy: y(v), r: 5, fill: "var(--card)", stroke: `var(${loss.colour})`,
            "stroke-width": 2}, svg);
        }
      });
      output.textContent = n;
      slider.setAttribute("aria-valuetext", `iteration ${n}`);
      chart.replaceChildren(svg);
    };

    for (const button of root.querySelectorAll("button[data-move]"))
      button.addEventListener("click", () => {
        const count = data.images.length;
        select.value = (Number(select.value) + Number(button.dataset.move) + count) % count;
        draw();
      });
    for (const control of [select, slider, ...radios]) control.addEventListener("input", draw);
    slider.value = Math.max(0, data.steps.findIndex((step) => step >= data.images[0].flips[0]));
    draw();
    let width = chart.clientWidth;
    new ResizeObserver(() => {
      if (chart.clientWidth === width) return;
      width = chart.clientWidth;
      draw();
    }).observe(chart);
  };

  document.querySelectorAll(".viewer").forEach(viewer);

  for (const button of document.querySelectorAll("button[data-copy]"))
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Selected: copy it with Ctrl+C";
      }
    });
})();
