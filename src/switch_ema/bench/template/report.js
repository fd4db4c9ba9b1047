// Draws the figures from the data the page carries; every number in it was computed before.
(() => {
  const { data, colour, plain, style, element, swatch, entry, axis, draw } = bench;
  const byId = (id) => document.getElementById(id);
  const short = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(5))));
  const styles = data.methods.map((_, i) => style(i));
  const shown = data.methods.map(() => true);
  const visible = (values) => values.map((value, i) => [value, i]).filter(([value, i]) => value && shown[i]);
  const chosen = (id) => Number(byId(id)?.value ?? 0);

  function fillTable(id, head, rows) {
    const made = document.createElement("table");
    const line = (parent, cells, first) => {
      const row = parent.appendChild(element("tr"));
      cells.forEach((text, i) => row.append(i && !first ? element("td", text) : element("th", text, { scope: first ? "col" : "row" })));
    };
    line(made.createTHead(), head, true);
    const body = made.createTBody();
    rows.forEach((row) => line(body, row, false));
    byId(id).replaceChildren(made);
  }

  function layout(x, y) {
    const looks = axis();
    return { ...bench.layout(), xaxis: { ...looks, ...x, title: { ...looks.title, ...x.title }, showgrid: false, showline: true }, yaxis: { ...looks, ...y } };
  }

  // The area between the lowest and the highest seed, one polygon for every stretch without a gap.
  function band(curve) {
    const x = [], y = [];
    let start = 0;
    for (let i = 0; i <= curve.x.length; i++) {
      if (i < curve.x.length && curve.mean[i] !== null) continue;
      if (i > start) {
        x.push(...curve.x.slice(start, i), ...curve.x.slice(start, i).reverse(), null);
        y.push(...curve.low.slice(start, i), ...curve.high.slice(start, i).reverse(), null);
      }
      start = i + 1;
    }
    return { x, y };
  }

  const labelled = (i) => `<b>${plain(data.methods[i])}</b><br>`;
  const range = (each, k) => `${short(each.low[k])} to ${short(each.high[k])}`;
  const seeds = (n) => `${n} seed${n === 1 ? "" : "s"}`;

  function drawCurves() {
    const curves = visible(data.curves[chosen("view")][chosen("rate")]);
    const bands = curves.map(([curve, i]) => ({
      ...band(curve), mode: "lines", line: { width: 0, color: colour(styles[i].name) }, fill: "toself", fillcolor: colour(styles[i].name), opacity: 0.13,
      hoverinfo: "skip",
    }));
    const lines = curves.map(([curve, i]) => ({
      x: curve.x, y: curve.mean, mode: "lines+markers", hovertemplate: "%{text}<extra></extra>",
      text: curve.x.map((epoch, k) => `${labelled(i)}epoch ${epoch}: ${short(curve.mean[k])}<br>${range(curve, k)}, ${seeds(curve.n[k])}`),
      line: { color: colour(styles[i].name), width: styles[i].width, dash: styles[i].dash },
      marker: { symbol: styles[i].symbol[0], size: 7, maxdisplayed: 10 },
    }));
    draw("curves", [...bands, ...lines], layout({ title: { text: "epoch" }, range: [0, data.epochs + 0.5], rangemode: "tozero" }, {}));
    byId("curves").previousElementSibling.querySelector("h3").textContent = `Learning curves: ${data.views[chosen("view")].toLowerCase()}`;
    const epochs = [...new Set(curves.flatMap(([curve]) => curve.x))].sort((a, b) => a - b);
    fillTable("curves-table", ["Epoch", ...curves.map(([, i]) => data.methods[i])],
      epochs.map((epoch) => [epoch, ...curves.map(([curve]) => short(curve.mean[curve.x.indexOf(epoch)]))]));
  }

  function dots(each, i, x, text) {
    const half = each.mean.map((mean, k) => (each.high[k] === null ? 0 : each.high[k] - mean));
    const below = each.mean.map((mean, k) => (each.low[k] === null ? 0 : mean - each.low[k]));
    return {
      x, y: each.mean, mode: "markers", text, hovertemplate: "%{text}<extra></extra>",
      marker: { symbol: styles[i].symbol[0], size: 8, color: colour(styles[i].name) },
      error_y: { type: "data", array: half, arrayminus: below, symmetric: false, width: 0, thickness: 1.75, color: colour(styles[i].name) },
    };
  }

  function drawDifferences() {
    const series = visible(data.differences[chosen("rate")]);
    const told = (each, k) => (each.low[k] === null ? "no interval" : `95 % interval ${range(each, k)}`);
    const traces = series.map(([each, i], j) => dots(each, i,
      data.points.map((_, k) => k + ((j + 0.5) / series.length - 0.5) * 0.76),
      data.points.map(([share, epoch], k) => `${labelled(i)}${share} of the budget, epoch ${epoch}: ${short(each.mean[k])}<br>${told(each, k)}, ${seeds(each.n[k])}`)));
    const shape = layout({
      tickvals: data.points.map((_, k) => k), ticktext: data.points.map(([share, epoch]) => `${share}<br>epoch ${epoch}`),
      range: [-0.5, data.points.length - 0.5], fixedrange: true,
    }, { zeroline: true, zerolinecolor: colour("ink"), zerolinewidth: 1.25 });
    shape.shapes = data.points.slice(1).map((_, k) => ({
      type: "line", x0: k + 0.5, x1: k + 0.5, y0: 0, y1: 1, yref: "paper", line: { color: colour("grid"), width: 1 },
    }));
    draw("differences", traces, shape);
    fillTable("differences-table", ["Method", ...data.points.map(([share, epoch]) => `${share} (epoch ${epoch})`)],
      series.map(([each, i]) => [data.methods[i], ...data.points.map((_, k) => `${short(each.mean[k])} (${told(each, k)})`)]));
  }

  function drawSensitivity() {
    const series = visible(data.sensitivity);
    const traces = series.map(([each, i]) => ({
      ...dots(each, i, data.lrs,
        data.lrs.map((lr, k) => `${labelled(i)}learning rate ${lr}: ${short(each.mean[k])}<br>${range(each, k)}, ${seeds(each.n[k])}`)),
      mode: "lines+markers", line: { color: colour(styles[i].name), width: styles[i].width, dash: styles[i].dash },
    }));
    draw("sensitivity", traces, layout({ type: "log", title: { text: "learning rate" }, tickvals: data.lrs, ticktext: data.lrs.map(String) }, {}));
    fillTable("sensitivity-table", ["Method", ...data.lrs.map(String)],
      series.map(([each, i]) => [data.methods[i], ...data.lrs.map((_, k) => `${short(each.mean[k])} (${range(each, k)})`)]));
  }

  function drawAll() {
    drawCurves();
    drawDifferences();
    if (byId("sensitivity")) drawSensitivity();
  }

  data.methods.forEach((label, i) => {
    byId("methods").append(entry(label, swatch(styles[i]), (on) => { shown[i] = on; drawAll(); }));
  });
  for (const [id, value] of [["show-all", true], ["hide-all", false]]) {
    byId(id).addEventListener("click", () => {
      shown.fill(value);
      document.querySelectorAll("#methods input").forEach((box) => { box.checked = value; });
      drawAll();
    });
  }
  const rates = data.rates.map((rate) => (rate === "best" ? "Each method’s own best" : rate));
  for (const [id, options] of [["view", data.views], ["rate", rates]]) {
    options.forEach((text, i) => byId(id)?.append(element("option", text, { value: i })));
    byId(id)?.addEventListener("change", drawAll);
  }

  const packed = Uint8Array.from(atob(byId("rows").textContent), (character) => character.charCodeAt(0));
  new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).blob()
    .then((rows) => { byId("download").href = URL.createObjectURL(rows); });

  bench.follow(drawAll);
})();
